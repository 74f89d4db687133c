"""Requests that are given up, a host that starts again, silence that is declared lost: store and memory agree."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import KohakuRiverError, StorageFull
from kohakuriver.host import control, nodes
from kohakuriver.host.archive import Archive
from kohakuriver.host.board import Board
from kohakuriver.host.liveness import Liveness
from kohakuriver.host.owners import Person
from kohakuriver.host.threads import Threads
from kohakuriver.store.models import TaskRow
from kohakuriver.testing.clock import FakeClock
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import Peer, add_node
from kohakuriver.wire import link

from .kit import agree, exited, placed, running, stored, submit


async def test_thousands_of_requests_given_up_at_any_moment_leave_board_and_store_agreeing(host, ann, node):
    host.owners.learn(ann.id, Person(name="ann", most_open=500))
    answered = []

    async def ask(number):
        (task,) = await submit(host, ann, key=str(number))
        if number % 3:
            await control.kill(host, ann, str(task))
        answered.append(task)

    for wave in range(20):
        asking = [asyncio.create_task(ask(wave * 100 + number)) for number in range(100)]
        ticking = asyncio.create_task(host.scheduler.tick())
        for number, one in enumerate(asking):
            # each is given up after another number of turns of the loop
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 5:
                one.cancel()
        await asyncio.gather(*asking, ticking, return_exceptions=True)
    # whatever was given up and is still on its way comes before this
    await host.commits.write([])
    await agree(host)
    rows = {row["id"] for row in await host.store.reader.of(TaskRow).all().values("id")}
    assert set(answered) <= rows
    assert len(answered) >= 100
    assert host.board.open_of(ann.id) == sum(task.owner == ann.id for task in host.board.all())


async def test_a_kill_that_was_given_up_is_whole_or_not_at_all(host, ann, node):
    for turns in range(8):
        task = await running(host, ann, node)
        killing = asyncio.create_task(control.kill(host, ann, str(task.id)))
        for _ in range(turns):
            await asyncio.sleep(0)
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await host.commits.write([])
        await agree(host)
        await node.tell("exited", task.attempt, **exited())


async def test_a_failed_write_leaves_no_trace_in_memory(host, ann, node, monkeypatch):
    task = await running(host, ann, node)
    before = host.board.get(task.id)
    with monkeypatch.context() as patch:

        async def full(statements):
            raise StorageFull

        patch.setattr(host.store.writer, "write", full)
        for change in (control.kill, control.pause):
            with pytest.raises(StorageFull):
                await change(host, ann, str(task.id))
    assert host.board.get(task.id) is before
    await node.tell("unknown", "1.1")
    assert [page for page in node.pipe.of(link.WantedSet) if page.wishes] == []
    await agree(host)


# Starting again


@asynccontextmanager
async def again(directory, clock):
    async with opened_host(directory, clock=clock) as host:
        yield host


async def test_the_board_after_a_restart_is_the_board_before(tmp_path):
    clock = FakeClock()
    async with again(tmp_path, clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host)
        node.cells[0].devices = [link.WireDevice(id="0000:01:00.0", index=0)]
        await node.connect()
        await running(host, ann, node)
        paused = await running(host, ann, node)
        await control.pause(host, ann, str(paused.id))
        await placed(host, ann, cores=1, pin=True, targets=["node1::0"])
        done = await running(host, ann, node)
        await node.tell("exited", done.attempt, **exited())
        killed = await running(host, ann, node)
        await control.kill(host, ann, str(killed.id))
        await submit(host, ann, copies=3, cores=4, priority=7)
        await submit(host, ann, cores=3, memory=2**20)
        before = sorted(host.board.all(), key=lambda task: task.id)
        queue = list(host.board.queue)
        reserved = {member.id: dict(host.board.reserved(member.id)) for member in host.roster.live()}
        member = node.member
        last = host.ids.next()
    async with again(tmp_path, clock) as host:
        assert sorted(host.board.all(), key=lambda task: task.id) == before
        assert list(host.board.queue) == queue
        assert {one.id: dict(host.board.reserved(one.id)) for one in host.roster.live()} == reserved
        found = host.roster.get(member.id)
        for name in ("name", "epoch", "acknowledged", "allocation", "cells", "backends", "boot"):
            assert getattr(found, name) == getattr(member, name)
        assert host.owners.name(ann.id) == "ann"
        assert host.ids.next() > last - 10
        assert not found.connected
        await agree(host)


async def test_a_drain_and_its_reason_hold_over_a_restart(tmp_path):
    clock = FakeClock()
    async with again(tmp_path, clock) as host:
        boss, node = await add_account(host, "boss", Role.OPERATOR), await add_node(host)
        await node.connect()
        await nodes.drain(host, boss, "node1", "new disk")
        (task,) = await submit(host, boss)
    async with again(tmp_path, clock) as host:
        peer = Peer(host, host.roster.named("node1"))
        await peer.connect()
        assert await host.scheduler.tick() == 0
        assert (await nodes.show_node(host, boss, "node1")).drain_reason == "new disk"
        await nodes.undrain(host, boss, "node1")
        assert await host.scheduler.tick() == 1
        assert host.board.get(task).node == peer.member.id


async def test_a_restarted_host_picks_up_where_its_runners_stand(tmp_path):
    clock = FakeClock()
    async with again(tmp_path, clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host)
        await node.connect()
        going = await running(host, ann, node)
        fresh = await placed(host, ann)
        lost_ack = node.report("exited", going.attempt, **exited(5))
        await node.send(lost_ack)
    async with again(tmp_path, clock) as host:
        back = Peer(host, host.roster.named("node1"))
        back.seq = node.seq
        pipe = await back.connect(held=[link.Held(attempt=going.attempt, phase="exited")])
        assert pipe.of(link.Welcome)[0].acknowledged == lost_ack.seq
        back.pipe.feed(lost_ack)
        assert (await pipe.heard(link.Assign)).attempt == fresh.attempt
        assert (await pipe.heard(link.Forget)).attempts == [going.attempt]
        await back.tell("accepted", fresh.attempt)
        assert (await stored(host, going.id)).exit.code == 5
        assert host.board.get(fresh.id).status is Status.STARTING
        await agree(host)


# Silence


def watch(host, lost_after):
    return Liveness(
        roster=host.roster, ledger=host.ledger, changes=host.changes, clock=host.clock, lost_after=lost_after, margin=15
    )


async def test_silence_alone_ends_nothing_unless_somebody_set_a_time(host, ann, node, clock):
    task = await running(host, ann, node)
    patient, strict = watch(host, None), watch(host, 600)
    await node.drop()
    clock.advance(599)
    for one in (patient, strict):
        await one.tick()
    assert host.board.get(task.id).status is Status.RUNNING
    clock.advance(10**6)
    await patient.tick()
    assert host.board.get(task.id).status is Status.RUNNING
    await strict.tick()
    final = await stored(host, task.id)
    assert (final.status, final.exit.reason) == (Status.LOST, "node node1 was silent for 600 s")
    # and the node's own word still counts
    await node.connect(held=[link.Held(attempt=task.attempt, phase="running")])
    assert host.board.get(task.id).status is Status.RUNNING
    await agree(host)


async def test_a_linked_node_is_never_given_up(host, ann, node, clock):
    task = await running(host, ann, node)
    clock.advance(10**6)
    await watch(host, 600).tick()
    assert host.board.get(task.id).status is Status.RUNNING


async def test_giving_up_that_the_store_refuses_is_tried_again_and_stops_nobody(host, ann, node, clock, monkeypatch):
    task = await running(host, ann, node)
    await node.drop()
    clock.advance(1000)
    strict = watch(host, 600)
    with monkeypatch.context() as patch:

        async def full(statements):
            raise StorageFull

        patch.setattr(host.store.writer, "write", full)
        await strict.tick()
    assert host.board.get(task.id).status is Status.RUNNING
    await strict.tick()
    assert (await stored(host, task.id)).status is Status.LOST


async def test_a_change_of_a_nodes_status_is_told_once(host, node, clock):
    watcher = watch(host, None)
    with host.changes.subscribe() as changes:
        for seconds in (0, 11, 0, 20, 0):
            clock.advance(seconds)
            await watcher.tick()
        host.changes.close()
        told = [change.status async for change in changes]
    assert told == ["online", "suspect", "offline"]


# Parts


async def test_a_reader_of_changes_that_is_slow_is_told_that_it_missed_some(host):
    with host.changes.subscribe() as changes:
        for number in range(5000):
            host.changes.publish("task", number)
        first = await changes.next()
        assert first.kind == "lagged"
        assert len(changes._waiting) <= 4096
        assert (await changes.next()).kind == "task"


async def test_a_pool_that_is_closed_says_so_in_words():
    threads = Threads()
    threads.close()
    with pytest.raises(KohakuRiverError, match="stops"):
        await threads.file(lambda: None)


async def test_an_archive_that_ends_with_the_host_leaves_no_task(host, ann, node):
    task = await running(host, ann, node)
    await node.tell("exited", task.attempt, **exited(0, stdout=link.Sealed(size=10, head=10)))
    await node.pipe.heard(link.Dial)
    archive: Archive = host.archive
    fetching = list(archive._fetching.values())
    assert len(fetching) == 1
    archive.close()
    await asyncio.gather(*fetching, return_exceptions=True)
    assert archive._fetching == {}


async def test_the_board_forgets_what_is_over(host, ann, node):
    board: Board = host.board
    for _ in range(10):
        task = await running(host, ann, node, cores=1, memory=2**20)
        await node.tell("exited", task.attempt, **exited())
    assert (board.waiting, board.statuses(), board.open_of(ann.id)) == (0, {}, 0)
    assert (len(board.queue), dict(board._tasks)) == (0, {})
    assert not any(board._reserved.values())
