"""Labels and cordons that change at the same time, or whose operator goes away: store and memory agree."""

import asyncio

import pytest

from kohakuriver.domain.labels import split_labels
from kohakuriver.errors import StoreError
from kohakuriver.host import cordons
from kohakuriver.host.labels import label_node
from kohakuriver.store.models import NodeRow
from kohakuriver.testing.runners import PATIENCE, add_node
from kohakuriver.wire import codec, link

from .kit import Gate

CARDS = [link.WireDevice(id=f"0000:0{n}:00.0", index=n) for n in range(3)]


async def stored_labels_of(host, member):
    (row,) = await host.store.reader.of(NodeRow).filter(id=member.id).values("labels")
    return split_labels(codec.decode(row["labels"], dict))


async def stored_cordons_of(host, member):
    (row,) = await host.store.reader.of(NodeRow).filter(id=member.id).values("cordons")
    return set(codec.decode(row["cordons"], dict))


@pytest.fixture
async def gpu(host):
    peer = await add_node(host, "gpu")
    peer.cells = [link.WireCell(cpus=[0, 1], memory=2**30, devices=CARDS)]
    await peer.connect(devices_told=True)
    return peer


async def settled(host, member):
    """Whatever is on its way to this node's row has come there."""
    async with member.changing:
        await host.commits.write([])


async def test_a_label_whose_operator_went_away_is_given_all_the_same(host, boss, node, monkeypatch):
    with monkeypatch.context() as patch:
        gate = Gate(host, patch)
        asking = asyncio.create_task(label_node(host, boss, "node1", {"room": "b12"}))
        await gate.reached()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gate.opened.set()
        await settled(host, node.member)
    assert node.member.given == {"room": "b12"}
    assert await stored_labels_of(host, node.member) == ({}, {"room": "b12"})


async def test_labels_that_two_operators_give_at_once_are_both_given(host, boss, node, monkeypatch):
    with monkeypatch.context() as patch:
        gate = Gate(host, patch)
        asking = [asyncio.create_task(label_node(host, boss, "node1", {key: "x"})) for key in ("room", "rack")]
        await gate.reached()
        gate.opened.set()
        await asyncio.gather(*asking)
    assert node.member.given == {"room": "x", "rack": "x"}
    assert await stored_labels_of(host, node.member) == ({}, {"room": "x", "rack": "x"})


async def test_a_label_that_is_not_stored_is_not_given(host, boss, node, monkeypatch):
    with monkeypatch.context() as patch:

        async def refuse(statements):
            raise StoreError("the disk is away")

        patch.setattr(host.store.writer, "write", refuse)
        with pytest.raises(StoreError):
            await label_node(host, boss, "node1", {"room": "b12"})
    assert node.member.given == {}


async def test_a_hello_that_waits_for_its_turn_keeps_the_label_that_was_given_meanwhile(host, boss, node):
    before = node.member.session
    async with node.member.changing:
        pipe = node.begin()
        pipe.feed(node.hello(labels={"rack": "r1"}))
        await until(lambda: node.member.session is not before)
        asking = asyncio.create_task(label_node(host, boss, "node1", {"room": "b12"}))
        for _ in range(3):
            await asyncio.sleep(0)
            await host.commits.write([])
    await pipe.heard(link.Welcome)
    await asking
    assert await stored_labels_of(host, node.member) == ({"rack": "r1"}, {"room": "b12"})


async def test_a_cordon_whose_operator_went_away_is_not_lost_to_the_next(host, boss, gpu, monkeypatch):
    with monkeypatch.context() as patch:
        gate = Gate(host, patch)
        first = asyncio.create_task(cordons.cordon(host, boss, "gpu", "0", "fan"))
        await gate.reached()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(cordons.cordon(host, boss, "gpu", "1", "dust"))
        for _ in range(3):
            await asyncio.sleep(0)
        gate.opened.set()
        await second
    assert set(gpu.member.cordons) == {CARDS[0].id, CARDS[1].id}
    assert await stored_cordons_of(host, gpu.member) == {CARDS[0].id, CARDS[1].id}


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)
