"""Enrolled machines, as values."""

from datetime import UTC, datetime

import msgspec

from kohakuriver.domain.nodes import Cordon
from kohakuriver.store.nodes import EnrolledNode, all_nodes, node_with_credential
from kohakuriver.wire.link import BackendInfo, WireCell

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CELLS = [WireCell(cpus=[0, 1], memory=2**33)]
BACKENDS = [BackendInfo(name="process")]
CORDONS = {"0000:3b:00.0": Cordon(reason="XID 79", since=NOW, by="the node")}


async def test_what_is_known_of_a_node_is_read_as_it_was_written(store, rows):
    known = {
        "draining": True,
        "drain_reason": "new memory",
        "epoch": 2**62,
        "boot": "b",
        "version": "0.2.0",
        "acknowledged": 9,
        "allocation": 4,
        "quarantine": "it crashed",
    }
    stored = {
        "labels": '{"rack":"r1","=rack":"r2"}',
        "cordons": msgspec.json.encode(CORDONS).decode(),
        "cells": msgspec.json.encode(CELLS).decode(),
        "backends": msgspec.json.encode(BACKENDS).decode(),
    }
    await store.writer.write([rows.node(2, state="revoked", **known, **stored)])
    assert (await all_nodes(store.reader))[1] == EnrolledNode(
        id=2,
        name="node2",
        revoked=True,
        credential_hash="0" * 64,
        labels={"rack": "r1"},
        given={"rack": "r2"},
        cordons=CORDONS,
        cells=CELLS,
        backends=BACKENDS,
        created=NOW,
        **known,
    )


async def test_a_new_node_is_known_by_its_name_alone(store):
    (new,) = await all_nodes(store.reader)
    assert (new.id, new.name, new.revoked, new.draining) == (1, "node1", False, False)
    assert (new.labels, new.cells, new.backends, new.quarantine, new.cordons) == ({}, [], [], None, {})
    assert new.credential_hash not in repr(new)


async def test_a_node_is_found_by_its_credential_also_when_revoked(store, rows):
    await store.writer.write([rows.node(2, state="revoked")])
    found = await node_with_credential(store.reader, "c000000002")
    assert found is not None
    assert (found.id, found.revoked) == (2, True)
    assert await node_with_credential(store.reader, "nobody") is None
