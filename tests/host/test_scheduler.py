"""Passes of the scheduler: who is placed where, why the rest waits, and what a pass survives."""

import asyncio

import pytest

from kohakuriver.domain.events import NeverStarted, Placed, Started
from kohakuriver.domain.placement import plan
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import MovedOn, StorageFull, StoreError
from kohakuriver.host import cause, control, nodes, tasks
from kohakuriver.host.foresee import explain
from kohakuriver.host.scheduler import MOST_PLACED
from kohakuriver.store.models import EventRow
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import GIB, add_node
from kohakuriver.wire import api, link

from .kit import agree, placed, running, submit


async def why(host, actor, task):
    return (await tasks.show_task(host, actor, str(task))).reason


async def test_what_fits_is_placed_in_order_of_priority_and_age(host, ann, node):
    old = (await submit(host, ann, cores=2))[0]
    young = (await submit(host, ann, cores=2))[0]
    urgent = (await submit(host, ann, cores=2, priority=5))[0]
    assert await host.scheduler.tick() == 2
    placed_ = {task.id for task in host.board.on_node(node.member.id)}
    assert placed_ == {urgent, old}
    assert host.board.get(young).status is Status.PENDING
    await agree(host)


async def test_what_waits_says_why_in_numbers(host, ann, node, clock):
    await placed(host, ann, cores=3, memory=6 * GIB)
    (cores,) = await submit(host, ann, cores=2)
    (memory,) = await submit(host, ann, cores=1, memory=4 * GIB)
    await host.scheduler.tick()
    assert (await why(host, ann, cores)).text == "needs 2 cores; most free is 1 core on node1"
    reason = await why(host, ann, memory)
    assert (reason.code, reason.text) == ("resources", "needs 1 core and 4 GiB; most free is 1 core, 2 GiB on node1")
    assert reason.ahead == 1
    await control.pause(host, ann, str(cores))
    clock.advance(2)
    assert (await why(host, ann, cores)).code == "paused"
    assert dict(host.scheduler.reasons()) == {"paused": 1, "resources": 1}
    explained = await explain(host, ann, str(memory))
    assert [(one.node, one.takes) for one in explained.candidates] == [("node1", False)]


async def test_without_a_node_it_waits_and_says_so(host, ann):
    (task,) = await submit(host, ann)
    assert await host.scheduler.tick() == 0
    assert (await why(host, ann, task)).code == "no_nodes"


@pytest.mark.parametrize("state", ["draining", "offline", "late", "revoked", "quarantined"])
async def test_nothing_is_ever_placed_on_a_node_that_should_take_none(host, ann, boss, node, clock, state):
    match state:
        case "draining":
            await nodes.drain(host, boss, "node1", "a new disk")
        case "offline":
            await node.drop()
        case "late":
            clock.advance(10)
        case "revoked":
            node.member.revoked = True
        case "quarantined":
            node.member.quarantine = "it holds more than it has"
    (task,) = await submit(host, ann)
    assert await host.scheduler.tick() == 0
    reason = await why(host, ann, task)
    expected = {
        "draining": "node1 is draining (a new disk)",
        "offline": "node1 is suspect",
        "late": "node1 is suspect",
        "quarantined": "node1 takes no new work (it holds more than it has)",
    }
    assert reason.text == expected.get(state, reason.text)
    if state == "draining":
        await nodes.undrain(host, boss, "node1")
        assert await host.scheduler.tick() == 1


async def test_a_node_that_refuses_for_now_is_left_alone_for_a_second(host, ann, node, clock):
    task = await placed(host, ann)
    await node.tell("refused_for_now", task.attempt, reason="its journal is full")
    assert await host.scheduler.tick() == 0
    clock.advance(0.9)
    assert await host.scheduler.tick() == 0
    clock.advance(0.2)
    assert await host.scheduler.tick() == 1
    assert host.board.get(task.id).generation == 2


async def test_a_second_node_takes_what_the_first_refused(host, ann, node):
    task = await placed(host, ann)
    await (await add_node(host, "node2")).connect()
    await node.tell("refused_for_now", task.attempt)
    await host.scheduler.tick()
    assert host.roster.name_of(host.board.get(task.id).node) == "node2"


async def test_a_long_queue_of_one_kind_is_placed_as_room_comes_however_few_are_looked_at(host, ann):
    big = await add_node(host, "big", cpus=3 * MOST_PLACED)
    await big.connect()
    await submit(host, ann, copies=3 * MOST_PLACED + 10)
    counts = [await host.scheduler.tick() for _ in range(4)]
    assert counts == [MOST_PLACED, MOST_PLACED, MOST_PLACED, 0]
    assert host.board.waiting == 10
    # the first in are the ones that were placed
    assert min(task.id for task in iter(host.board.queue)) > max(task.id for task in host.board.on_node(big.member.id))


async def test_the_pass_over_heads_places_what_the_plan_of_the_whole_queue_would(host, ann, node, clock):
    other = await add_account(host, "bob")
    await submit(host, ann, cores=4, copies=MOST_PLACED + 5)
    (small,) = await submit(host, other, cores=1, priority=-1)
    await host.scheduler.tick()
    assert host.board.get(small).status is Status.PENDING
    full = {placement.task for placement in host.scheduler.full().placements}
    assert not full
    first, then = host.board.on_node(node.member.id)[0], next(iter(host.board.queue))
    await node.tell("refused_for_good", first.attempt)
    # the place of what ended is taken by the same commit
    assert [task.id for task in host.board.on_node(node.member.id)] == [then.id]
    assert await host.scheduler.tick() == 0
    assert host.board.get(small).status is Status.PENDING


async def test_a_task_that_moved_on_meanwhile_is_planned_anew(host, ann, node):
    (task,) = await submit(host, ann, cores=1)
    (other,) = await submit(host, ann, cores=2)
    before = host.board.get(task)
    killed = asyncio.create_task(control.kill(host, ann, str(task)))
    await asyncio.gather(host.scheduler.tick(), killed)
    await host.scheduler.tick()
    assert before.generation == 0
    assert host.board.get(other).status is Status.ASSIGNED
    assert len(await host.store.reader.of(EventRow).filter(what="placed", task=other).values()) == 1
    await agree(host)


async def test_two_schedulers_cannot_give_the_same_room_away_twice(host, ann, node):
    (one,) = await submit(host, ann, cores=4)
    (two,) = await submit(host, ann, cores=4)
    reserved = [p.reserved for p in plan(host.scheduler.snapshot(), [host.board.get(one)]).placements]
    results = await asyncio.gather(
        host.ledger.place(node.member, [(host.board.get(one), reserved[0])]),
        host.ledger.place(node.member, [(host.board.get(two), reserved[0])]),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["WrongCount", "list"]
    assert node.member.allocation == 1
    await agree(host)


@pytest.mark.parametrize("error", [StorageFull, StoreError, MovedOn])
async def test_a_pass_that_the_store_refuses_places_nothing_and_the_next_one_tries_again(
    host, ann, node, monkeypatch, error
):
    (task,) = await submit(host, ann)
    with monkeypatch.context() as patch:

        async def refuse(statements):
            raise error

        patch.setattr(host.store.writer, "write", refuse)
        assert await host.scheduler.tick() == 0
    assert host.board.get(task).status is Status.PENDING
    assert await host.scheduler.tick() == 1


async def test_one_card_is_one_tasks(host, ann):
    cards = [link.WireDevice(id=f"0000:0{n}:00.0", index=n, model="A100", memory=40 * GIB) for n in range(2)]
    gpu = await add_node(host, "gpu")
    gpu.cells[0].devices = cards
    await gpu.connect()
    both = await placed(host, ann, devices=api.Devices(count=2))
    assert host.board.reserved(gpu.member.id)[both.id].devices == ("0000:00:00.0", "0000:01:00.0")
    assert (await placed(host, ann, devices=api.Devices(count=1))).status is Status.PENDING
    await agree(host)


async def test_an_event_beside_the_table_writes_nothing(host, ann, node):
    task = await running(host, ann, node)
    with pytest.raises(Exception, match="Placed while running"):
        await host.ledger.record(task.id, Placed(node=node.member.id), cause.SCHEDULER)
    assert host.board.get(task.id) == task


async def test_the_loop_wakes_by_itself(host, ann, node):
    running_ = host.group.create_task(host.scheduler.run())
    try:
        (task,) = await submit(host, ann)
        told = await node.pipe.heard(link.Assign)
        assert told.attempt == f"{task}.1"
    finally:
        running_.cancel()


async def test_a_node_that_holds_more_than_it_has_takes_no_new_work(host, ann, boss, node):
    lost = (await running(host, ann, node, memory=6 * GIB)).id
    await control.declare_lost(host, boss, str(lost), "its node burnt")
    other = (await placed(host, ann, memory=6 * GIB)).id
    await host.ledger.record(lost, Started(), cause.node("node1"))
    (small,) = await submit(host, ann, cores=1)
    assert await host.scheduler.tick() == 0
    assert "it holds more than it has" in (await why(host, ann, small)).text
    await control.kill(host, ann, str(other))
    await host.ledger.record(other, NeverStarted(), cause.node("node1"))
    assert await host.scheduler.tick() == 1
