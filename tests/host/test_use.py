"""What is in use against what is reserved, from heartbeats; who may see what of it."""

import pytest

from kohakuriver.host import cards, nodes, top
from kohakuriver.host.use import UNUSED_SECONDS, NodeUse
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import api, link
from kohakuriver.wire.cards import DeviceProcess, DeviceUse

from .kit import placed, running

GIB = 2**30
CARD = "0000:1a:00.0"
OTHER = "0000:1b:00.0"


@pytest.fixture
async def gpu(host):
    """A node with two cards."""
    peer = await add_node(host, "gpu")
    peer.cells[0].devices = [
        link.WireDevice(id=name, uuid=f"GPU-{n}", index=n, model="A100", memory=40 * GIB, driver="550.1", numa=0)
        for n, name in enumerate((CARD, OTHER))
    ]
    await peer.connect(devices_told=True)
    return peer


async def beat(host, peer, *uses, **fields):
    """A heartbeat has come."""
    seen = len(peer.member.history), peer.member.beat
    peer.pipe.feed(link.Heartbeat(devices=list(uses), **fields))
    await peer.tell("unknown", "1.1")
    assert (len(peer.member.history), peer.member.beat) != seen


def use(name=CARD, busy=0.0, *pids, **fields):
    processes = [DeviceProcess(pid=pid, memory=GIB, attempt=attempt) for pid, attempt in pids]
    return DeviceUse(id=name, utilization=busy, memory_used=2 * GIB, processes=processes, **fields)


async def test_an_attempt_that_is_none_leaves_the_cards_of_all_others_shown(host, ann, gpu):
    task = await running(host, ann, gpu, devices=api.Devices(count=1))
    odd = [f"{task.id:020}{'9' * 5000}.1", f"0{task.attempt}", f"{task.attempt}.1", "x", "."]
    await beat(host, gpu, use(CARD, 0.5, *enumerate([*odd, task.attempt])))
    card = (await cards.list_cards(host, ann)).items[0]
    assert [process.task for process in card.processes] == [None] * len(odd) + [str(task.id)]


async def test_every_card_is_shown_with_how_it_does_and_who_has_it(host, ann, boss, gpu):
    task = await running(host, ann, gpu, devices=api.Devices(count=1), name="train")
    foreign = (77, "4.1")
    await beat(host, gpu, use(CARD, 0.5, (11, task.attempt), (12, ""), foreign, temperature=70.0, power=250.0, xid=13))
    first, second = (await cards.list_cards(host, boss)).items
    assert (first.node, first.id, first.index, first.model, first.driver, first.numa) == (
        "gpu", CARD, 0, "A100", "550.1", 0,
    )  # fmt: skip
    assert (first.memory, first.memory_used, first.utilization, first.temperature, first.power, first.xid) == (
        40 * GIB, 2 * GIB, 0.5, 70.0, 250.0, 13,
    )  # fmt: skip
    assert (first.task, first.name, first.owner, first.status) == (str(task.id), "train", "ann", "running")
    assert [(process.pid, process.task, process.owner) for process in first.processes] == [
        (11, str(task.id), "ann"),
        (12, None, None),
        (77, None, None),
    ]
    assert (second.task, second.utilization, second.idle, second.usable) == (None, None, None, True)
    (sample,) = (await nodes.node_health(host, ann, "gpu")).items
    assert [(card.id, card.utilization, card.temperature) for card in sample.gpus] == [(CARD, 0.5, 70.0)]


async def test_a_reservation_that_lies_idle_for_ten_minutes_is_told(host, clock, ann, gpu):
    task = await running(host, ann, gpu, devices=api.Devices(count=1))
    await beat(host, gpu, use(busy=0.9))
    clock.advance(UNUSED_SECONDS - 10)
    await beat(host, gpu, use(busy=0.0))
    card = (await cards.list_cards(host, ann)).items[0]
    assert (card.idle, card.unused) == (UNUSED_SECONDS - 10, False)
    clock.advance(15)
    await beat(host, gpu, use(busy=0.0))
    card = (await cards.list_cards(host, ann)).items[0]
    assert (card.idle, card.unused) == (UNUSED_SECONDS + 5, True)
    (row,) = (await top.show_use(host, ann, 10)).tasks
    assert (row.id, row.idle, row.unused) == (str(task.id), UNUSED_SECONDS + 5, True)
    await beat(host, gpu, use(busy=0.3))
    assert not (await cards.list_cards(host, ann)).items[0].unused


async def test_idle_counts_from_the_start_of_the_task_that_has_the_card_now(host, clock, ann, gpu):
    await beat(host, gpu, use(busy=0.0))
    clock.advance(3000)
    await beat(host, gpu, use(busy=0.0))
    card = (await cards.list_cards(host, ann)).items[0]
    assert (card.idle, card.unused) == (3000, False)
    await running(host, ann, gpu, devices=api.Devices(count=1))
    clock.advance(20)
    await beat(host, gpu, use(busy=0.0))
    assert (await cards.list_cards(host, ann)).items[0].idle == 20


async def test_of_a_node_that_is_silent_nothing_is_said_to_be_unused(host, clock, ann, gpu):
    await running(host, ann, gpu, devices=api.Devices(count=1))
    await beat(host, gpu, use(busy=0.0))
    clock.advance(3 * UNUSED_SECONDS)
    (card, _) = (await cards.list_cards(host, ann)).items
    assert (card.node_status, card.idle, card.unused) == ("offline", None, False)
    view = await top.show_use(host, ann, 10)
    assert (view.tasks[0].unused, view.tasks[0].cpu, view.nodes[0].cpu) == (False, None, None)


async def test_a_task_without_cards_is_idle_while_it_uses_no_processor(host, clock, ann, gpu):
    task = await running(host, ann, gpu, cores=2, memory=GIB)
    await beat(host, gpu, stats={task.attempt: (10.0, 300)})
    clock.advance(10)
    await beat(host, gpu, stats={task.attempt: (25.0, 400)}, cpu=0.25, memory_used=2 * GIB)
    view = await top.show_use(host, ann, 10)
    (row,) = view.tasks
    assert (row.cores, row.cpu, row.memory, row.memory_used, row.idle, row.gpus) == (2, 1.5, GIB, 400, 0, [])
    (node,) = view.nodes
    assert (node.cores, node.cores_reserved, node.cpu, node.memory_used, node.gpus) == (4, 2, 0.25, 2 * GIB, 2)
    clock.advance(UNUSED_SECONDS)
    await beat(host, gpu, stats={task.attempt: (25.1, 400)})
    assert (await top.show_use(host, ann, 10)).tasks[0].unused


async def test_tasks_of_others_are_shown_without_their_command(host, ann, boss, gpu):
    mine = await running(host, ann, gpu, command=["train", "secret-words"], devices=api.Devices(count=2))
    bob = await add_account(host, "bob")
    (row,) = (await top.show_use(host, bob, 10)).tasks
    assert (row.id, row.owner, row.gpus, row.command) == (str(mine.id), "ann", ["0", "1"], None)
    for actor in (ann, boss):
        assert (await top.show_use(host, actor, 10)).tasks[0].command == ["train", "secret-words"]


async def test_the_greediest_tasks_come_first_and_the_rest_is_counted(host, ann, gpu):
    small = await placed(host, ann, cores=1)
    large = await placed(host, ann, cores=2)
    card = await placed(host, ann, cores=1, devices=api.Devices(count=1))
    view = await top.show_use(host, ann, 2)
    assert [row.id for row in view.tasks] == [str(card.id), str(large.id)]
    assert (view.more, view.waiting) == (1, 0)
    assert str(small.id) not in {row.id for row in view.tasks}


async def test_sums_of_a_node_count_cards_that_are_cordoned(host, ann, gpu):
    await beat(host, gpu, use(CARD, 0.2), use(OTHER, 0.6))
    faulty = [
        link.WireDevice(id=name, index=n, memory=GIB, fault="x" * n or None) for n, name in enumerate((CARD, OTHER))
    ]
    await gpu.drop()
    gpu.cells[0].devices = faulty
    await gpu.connect(devices_told=True)
    (node,) = (await top.show_use(host, ann, 10)).nodes
    assert (node.gpus, node.gpus_reserved, node.gpus_cordoned, node.gpu_memory) == (2, 0, 1, 2 * GIB)
    assert node.gpu_utilization == pytest.approx(0.4)


def test_a_part_of_a_card_is_at_work_while_a_process_is_on_it():
    tracker = NodeUse()
    part = DeviceUse(id=f"{CARD}/MIG-a", processes=[DeviceProcess(pid=1)])
    tracker.take(link.Heartbeat(devices=[part]), 0.0)
    tracker.take(link.Heartbeat(devices=[part]), 100.0)
    assert tracker.card_idle(part.id, 130.0) == 30.0
    tracker.take(link.Heartbeat(devices=[DeviceUse(id=part.id)]), 200.0)
    assert tracker.card_idle(part.id, 200.0) == 100.0
    assert tracker.card_idle(CARD, 200.0) is None


def test_what_the_newest_heartbeat_does_not_name_is_forgotten():
    tracker = NodeUse()
    tracker.take(link.Heartbeat(devices=[DeviceUse(id=CARD)], stats={"1.1": (1.0, 1)}), 0.0)
    tracker.take(link.Heartbeat(), 5.0)
    assert (tracker.cards, tracker.attempts, tracker.card_idle(CARD, 5.0)) == ({}, {}, None)
