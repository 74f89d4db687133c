"""Cards that get no new work: by what their node says of them, and by operators; what holds one keeps it."""

import asyncio

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import NotAllowed, NotFound, StoreError
from kohakuriver.host import cards, cordons, nodes
from kohakuriver.host.stock import evidence
from kohakuriver.store.models import EventRow, NodeRow
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import PATIENCE, add_node
from kohakuriver.wire import api, codec, link

from .kit import placed, running

GIB = 2**30
LOST = "NVML says 'gpu is lost' (error 15)"
NAMES = ["0000:1a:00.0", "0000:1b:00.0"]


def cards_of(*faults, names=NAMES):
    return [
        link.WireDevice(id=name, uuid=f"GPU-{n}", index=n, model="A100", memory=40 * GIB, fault=fault)
        for n, (name, fault) in enumerate(zip(names, faults, strict=False))
    ]


def cells(*devices):
    return [link.WireCell(cpus=[0, 1, 2, 3], memory=8 * GIB, devices=list(devices))]


@pytest.fixture
async def gpu(host):
    """A node with two cards."""
    peer = await add_node(host, "gpu")
    peer.cells = cells(*cards_of(None, None))
    await peer.connect(devices_told=True)
    return peer


async def refresh(host, peer, *devices, told=True):
    """The node says it again; returns when the host has taken it over."""
    wanted = [(device.id, device.fault) for device in devices]
    peer.pipe.feed(link.Refresh(cells=cells(*devices), backends=peer.backends, devices_told=told))

    def taken():
        return [(d.id, d.fault) for d in peer.member.cells[0].devices if d.modes] == wanted

    await until(taken)
    for _ in range(2):  # it is committed as well: by who takes the lock once more
        async with peer.member.changing:
            await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def events(host, what):
    return [
        codec.decode(row["detail"], dict)
        for row in await host.store.reader.of(EventRow).filter(what=what).order_by("id").values("detail")
    ]


async def stored(host, peer):
    (row,) = await host.store.reader.of(NodeRow).filter(id=peer.member.id).values("cordons")
    return codec.decode(row["cordons"], dict)


async def test_a_lost_card_is_cordoned_with_the_evidence_and_gets_no_new_work(host, ann, boss, gpu):
    await refresh(host, gpu, *cards_of(None, LOST))
    assert [(mark.device, mark.index, mark.reason, mark.by) for mark in cards.cordon_views(gpu.member)] == [
        (NAMES[1], 1, LOST, "node gpu")
    ]
    assert (await stored(host, gpu))[NAMES[1]]["reason"] == LOST
    assert await events(host, "gpu_cordoned") == [{"name": "gpu", "device": NAMES[1], "reason": LOST}]
    first = await placed(host, ann, devices=api.Devices(count=1))
    assert host.board.reserved(gpu.member.id)[first.id].devices == (NAMES[0],)
    second = await placed(host, ann, devices=api.Devices(count=1))
    assert second.status is Status.PENDING
    assert "1 card is cordoned: NVML says 'gpu is lost'" in host.scheduler.full().reasons[second.id].text
    named = await placed(host, ann, targets=["gpu::1"])
    assert named.status is Status.PENDING
    assert "1 card is cordoned" in host.scheduler.full().reasons[named.id].text


async def test_a_task_keeps_the_card_that_is_cordoned_under_it(host, ann, gpu):
    task = await running(host, ann, gpu, devices=api.Devices(count=2))
    await refresh(host, gpu, *cards_of(None, LOST))
    assert host.board.get(task.id).status is Status.RUNNING
    assert host.board.reserved(gpu.member.id)[task.id].devices == tuple(NAMES)
    shown = (await cards.list_cards(host, ann)).items
    assert [(card.task, card.owner, card.cordon is not None) for card in shown] == [
        (str(task.id), "ann", False),
        (str(task.id), "ann", True),
    ]


async def test_a_card_that_is_not_named_any_more_is_cordoned_and_shown(host, ann, boss, gpu):
    await refresh(host, gpu, cards_of(None)[0])
    (mark,) = cards.cordon_views(gpu.member)
    assert (mark.device, mark.index) == (NAMES[1], None)
    assert "vanished" in mark.reason
    assert "GPU 1, A100" in mark.reason
    shown = (await cards.list_cards(host, ann)).items
    assert [(card.id, card.usable) for card in shown] == [(NAMES[0], True), (NAMES[1], False)]
    assert len((await nodes.show_node(host, ann, "gpu")).cordons) == 1
    await refresh(host, gpu, *cards_of(None, None))
    assert len(cards.cordon_views(gpu.member)) == 1
    await cordons.uncordon(host, boss, "gpu", NAMES[1])
    both = await placed(host, ann, devices=api.Devices(count=2))
    assert both.status is Status.ASSIGNED


async def test_a_driver_that_does_not_answer_speaks_against_no_card(host, ann, gpu):
    await refresh(host, gpu, told=False)
    assert gpu.member.cordons == {}
    assert [card.usable for card in (await cards.list_cards(host, ann)).items] == [False, False]
    await refresh(host, gpu, cards_of(None)[0])
    assert list(gpu.member.cordons) == [NAMES[1]]


async def test_the_same_evidence_cordons_once_and_an_operators_word_stands(host, boss, gpu):
    await refresh(host, gpu, *cards_of(None, LOST))
    await cordons.uncordon(host, boss, "gpu", "1")
    await refresh(host, gpu, *cards_of(None, LOST))
    assert gpu.member.cordons == {}
    await gpu.drop()
    gpu.cells = cells(*cards_of(None, LOST))
    await gpu.connect(devices_told=True)
    assert gpu.member.cordons == {}
    await refresh(host, gpu, *cards_of(None, "2 uncorrectable ECC errors since its driver was loaded"))
    assert list(gpu.member.cordons) == [NAMES[1]]


async def test_cordons_survive_host_and_runner(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        boss = await add_account(host, "boss", Role.OPERATOR)
        peer = await add_node(host, "gpu")
        peer.cells = cells(*cards_of(None, None))
        await peer.connect(devices_told=True)
        await cordons.cordon(host, boss, "gpu", "0", "fan")
        await refresh(host, peer, *cards_of(None, LOST))
        await peer.drop()
    async with opened_host(tmp_path, clock=clock) as host:
        member = host.roster.find("gpu")
        assert {name: mark.by for name, mark in member.cordons.items()} == {NAMES[0]: "boss", NAMES[1]: "node gpu"}
        assert set(host.roster.find("gpu").snapshot(0).cordons) == set(NAMES)


async def test_operators_cordon_by_hand_with_a_reason_that_may_change(host, ann, boss, gpu):
    view = await cordons.cordon(host, boss, "gpu", "0", "fan")
    view = await cordons.cordon(host, boss, "gpu", "GPU-0", "fan is loud")
    assert [(mark.device, mark.reason, mark.by) for mark in view.cordons] == [(NAMES[0], "fan is loud", "boss")]
    task = await placed(host, ann, devices=api.Devices(count=1))
    assert host.board.reserved(gpu.member.id)[task.id].devices == (NAMES[1],)
    assert (await cordons.uncordon(host, boss, "gpu", NAMES[0])).cordons == []
    assert (await cordons.uncordon(host, boss, "gpu", NAMES[0])).cordons == []
    assert [detail["reason"] for detail in await events(host, "gpu_cordoned")] == ["fan", "fan is loud"]
    assert [detail["device"] for detail in await events(host, "gpu_uncordoned")] == [NAMES[0]]


async def test_a_cordon_of_the_whole_holds_for_its_parts_and_one_part_can_be_cordoned_alone(host, ann, boss):
    peer = await add_node(host, "mig")
    parts = [
        link.WireDevice(id=f"{NAMES[0]}/MIG-{n}", uuid=f"MIG-{n}", index=0, model="A100 MIG", memory=GIB) for n in "ab"
    ]
    peer.cells = cells(*parts)
    await peer.connect(devices_told=True)
    await cordons.cordon(host, boss, "mig", "mig-a", "slow")
    assert list(peer.member.cordons) == [parts[0].id]
    await cordons.uncordon(host, boss, "mig", parts[0].id)
    for word in ("0", NAMES[0]):
        await cordons.cordon(host, boss, "mig", word, "all of it")
        assert list(peer.member.cordons) == [NAMES[0]]
    assert (await placed(host, ann, devices=api.Devices(count=1))).status is Status.PENDING
    assert all(card.cordon is not None for card in (await cards.list_cards(host, ann)).items)
    peer.pipe.feed(link.Refresh(cells=cells(cards_of(None)[0]), backends=peer.backends, devices_told=True))
    await peer.tell("unknown", "1.1")
    assert await events(host, "gpu_cordoned") != []
    assert all("vanished" not in detail["reason"] for detail in await events(host, "gpu_cordoned"))


@pytest.mark.parametrize("word", ["7", "0000:99:00.0", "", "A100"])
async def test_a_card_that_is_not_there_is_named_with_those_that_are(host, boss, gpu, word):
    with pytest.raises(NotFound, match=r"0 \(0000:1a:00.0\), 1 \(0000:1b:00.0\)"):
        await cordons.cordon(host, boss, "gpu", word, "x")


async def test_no_word_at_all_names_no_card_also_where_there_is_one_alone(host, boss):
    peer = await add_node(host, "single")
    peer.cells = cells(link.WireDevice(id=NAMES[0], index=0))
    await peer.connect(devices_told=True)
    with pytest.raises(NotFound):
        await cordons.cordon(host, boss, "single", " ", "x")


async def test_only_operators_cordon(host, ann, gpu):
    with pytest.raises(NotAllowed):
        await cordons.cordon(host, ann, "gpu", "0", "x")
    with pytest.raises(NotAllowed):
        await cordons.uncordon(host, ann, "gpu", "0")


async def test_a_store_that_fails_leaves_the_card_cordoned_and_has_the_evidence_when_it_works(host, gpu, monkeypatch):
    with monkeypatch.context() as patch:

        async def refuse(statements):
            raise StoreError("the disk is away")

        patch.setattr(host.store.writer, "write", refuse)
        gpu.pipe.feed(link.Refresh(cells=cells(*cards_of(None, LOST)), backends=gpu.backends, devices_told=True))
        await until(lambda: NAMES[1] in gpu.member.cordons)
        assert await stored(host, gpu) == {}
    async with asyncio.timeout(PATIENCE):
        while not await stored(host, gpu):
            await asyncio.sleep(0)
    assert list(await stored(host, gpu)) == [NAMES[1]]
    assert len(await events(host, "gpu_cordoned")) == 1


def test_parts_that_come_and_go_are_no_evidence():
    whole, parts = cards_of(None), [link.WireDevice(id=f"{NAMES[0]}/MIG-{n}", index=0) for n in "ab"]
    assert evidence(cells(*whole), cells(*parts), told=True) == {}
    assert evidence(cells(*parts), cells(*whole), told=True) == {}
    assert evidence(cells(*whole), cells(), told=False) == {}


async def test_a_node_that_names_ever_new_cards_is_cordoned_so_often_and_no_more(host, gpu):
    for round_ in range(3):
        names = [f"0000:{round_:02x}:{n:02x}.0" for n in range(200)]
        await refresh(host, gpu, *cards_of(*[None] * 200, names=names))
    assert len(gpu.member.cordons) == 256
