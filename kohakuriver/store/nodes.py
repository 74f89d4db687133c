"""Enrolled machines out of their rows. What is live of a node is `host/roster.py`'s to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from kohakuriver.domain.labels import split_labels
from kohakuriver.domain.nodes import Cordon
from kohakuriver.store.columns import moment
from kohakuriver.store.models import NodeRow
from kohakuriver.store.reader import Reader
from kohakuriver.wire.link import BackendInfo, WireCell

ACTIVE = "active"


@dataclass(frozen=True, kw_only=True)
class EnrolledNode:
    """A node as recorded: what an operator said of it, and what its runner said last of itself."""

    id: int
    name: str
    revoked: bool
    credential_hash: str = field(repr=False)
    draining: bool
    drain_reason: str
    #: labels that its runner announced, and those that an operator gave it
    labels: dict[str, str]
    given: dict[str, str]
    cells: list[WireCell]
    backends: list[BackendInfo]
    #: life of the runner's journal
    epoch: int
    #: boot id of its kernel
    boot: str
    #: release of its runner
    version: str
    #: highest report that was committed here
    acknowledged: int
    #: rises with every reservation made or freed
    allocation: int
    #: why it takes no new work; None: it does
    quarantine: str | None
    #: cards that get no new work, by device id
    cordons: dict[str, Cordon]
    created: datetime


async def all_nodes(reader: Reader) -> list[EnrolledNode]:
    """Every node, also the revoked ones, by id."""
    return [_node(row) for row in await reader.of(NodeRow).order_by("id").values()]


async def node_with_credential(reader: Reader, credential: str) -> EnrolledNode | None:
    """The node that was given the credential of that id, also a revoked one."""
    rows = await reader.of(NodeRow).filter(credential=credential).values()
    return _node(rows[0]) if rows else None


def _node(row: Mapping[str, Any]) -> EnrolledNode:
    announced, given = split_labels(msgspec.json.decode(row["labels"], type=dict[str, str]))
    return EnrolledNode(
        id=row["id"],
        name=row["name"],
        revoked=row["state"] != ACTIVE,
        credential_hash=row["credential_hash"],
        draining=bool(row["draining"]),
        drain_reason=row["drain_reason"],
        labels=announced,
        given=given,
        cells=msgspec.json.decode(row["cells"], type=list[WireCell]),
        backends=msgspec.json.decode(row["backends"], type=list[BackendInfo]),
        epoch=row["epoch"],
        boot=row["boot"],
        version=row["version"],
        acknowledged=row["acknowledged"],
        allocation=row["allocation"],
        quarantine=row["quarantine"],
        cordons=msgspec.json.decode(row["cordons"], type=dict[str, Cordon]),
        created=moment(row["created"]),
    )
