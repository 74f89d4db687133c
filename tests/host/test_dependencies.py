"""`--after`: who waits for whom, what lets a task go, what ends it, and that none of it is forgotten."""

import asyncio

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.dependencies import Key
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import Conflict, MovedOn, NotAllowed, NotFound, StorageFull
from kohakuriver.host import control, tasks
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import agree, exited, placed, running, stored, submit, told


async def end(peer, host, task, code=0):
    """Takes a task that was placed to its end."""
    attempt = host.board.get(task).attempt
    await peer.tell("accepted", attempt)
    await peer.tell("started", attempt)
    await peer.tell("exited", attempt, **exited(code))


async def reason(host, actor, task, clock):
    clock.advance(2)
    return (await tasks.show_task(host, actor, str(task))).reason


async def test_it_starts_when_what_it_waits_for_has_ended_well(host, ann, node, clock):
    first = await placed(host, ann, cores=0, name="prepare")
    (second,) = await submit(host, ann, cores=0)
    (after,) = await submit(host, ann, cores=0, after=["prepare", str(second)[-6:]])
    await host.scheduler.tick()
    assert host.board.get(after).status is Status.PENDING
    why = await reason(host, ann, after, clock)
    assert (why.code, why.text) == ("dependency", f"waits for 2 of 2 tasks; next {first.id}")
    await end(node, host, first.id)
    assert await host.scheduler.tick() == 0
    assert (await reason(host, ann, after, clock)).text == f"waits for 1 of 2 tasks; next {second}"
    await end(node, host, second)
    assert await host.scheduler.tick() == 1
    assert host.dependencies.reasons() == {}
    view = await tasks.show_task(host, ann, str(after))
    assert [(one.id, one.batch, one.always) for one in view.after] == [
        (str(first.id), False, False),
        (str(second), False, False),
    ]
    await agree(host)


@pytest.mark.parametrize(
    ("ends", "words"),
    [("failed", "failed"), ("killed", "killed"), ("lost", "lost")],
)
async def test_it_is_ended_with_the_reason_when_that_ended_otherwise(host, ann, boss, node, ends, words):
    task = await running(host, ann, node, cores=0)
    (after,) = await submit(host, ann, after=[str(task.id)])
    (chained,) = await submit(host, ann, after=[str(after)])
    (whatever,) = await submit(host, ann, cores=0, after_any=[str(task.id)])
    if ends == "lost":
        await control.declare_lost(host, boss, str(task.id), "burnt")
    else:
        if ends == "killed":
            await control.kill(host, ann, str(task.id))
        await node.tell("exited", task.attempt, **exited(3), signalled="killed" if ends == "killed" else None)
    assert host.board.get(after).status is Status.PENDING
    assert await host.dependencies.tick()
    ended = await stored(host, after)
    assert (ended.status, ended.wanted) == (Status.KILLED, "run")
    assert ended.exit.reason == f"it was to start after task {task.id} had ended well, and that is {words}"
    assert (await told(host, after))[-1] == "never_satisfied"
    assert await host.dependencies.tick()
    assert (await stored(host, chained)).status is Status.KILLED
    assert host.board.get(whatever).status is Status.PENDING
    assert await host.scheduler.tick() == 1
    assert host.board.get(whatever).status is Status.ASSIGNED
    await agree(host)


async def test_a_whole_batch_is_waited_for(host, ann, clock):
    big = await add_node(host, "big", cpus=16)
    await big.connect()
    ids = await submit(host, ann, array="0-4", name="sweep")
    (after,) = await submit(host, ann, after=["batch:sweep"])
    (first,) = await submit(host, ann, after=["sweep[0]"])
    (any_,) = await submit(host, ann, after_any=[f"batch:{ids[3]}"])
    await host.scheduler.tick()
    await end(big, host, ids[0])
    assert (await reason(host, ann, after, clock)).text == f"waits for 4 of 5 tasks; next {ids[1]}"
    await host.scheduler.tick()
    assert host.board.get(first).status is Status.ASSIGNED
    for task in ids[1:4]:
        await end(big, host, task)
    await host.dependencies.tick()
    assert (await stored(host, after)).status is Status.PENDING
    await end(big, host, ids[4], code=1)
    await host.dependencies.tick()
    assert (await stored(host, after)).exit.reason == (
        f"it was to start after task {ids[4]} of batch {ids[0]} had ended well, and that is failed"
    )
    await host.scheduler.tick()
    assert host.board.get(any_).status is Status.ASSIGNED


async def test_one_bad_end_in_a_batch_is_enough(host, ann, node):
    ids = await submit(host, ann, array="0-99", cores=0)
    waiting = await submit(host, ann, array="0-99", after=[f"batch:{ids[0]}"])
    await control.kill(host, ann, str(ids[7]))
    await host.dependencies.tick()
    assert {(await stored(host, task)).status for task in waiting} == {Status.KILLED}


async def test_what_ended_well_before_is_not_waited_for(host, ann, node):
    task = await placed(host, ann)
    await end(node, host, task.id)
    (after,) = await submit(host, ann, after=[str(task.id)])
    assert await host.scheduler.tick() == 1
    assert host.board.get(after).status is Status.ASSIGNED


async def test_what_could_never_start_is_refused_at_once(host, ann, node):
    task = await placed(host, ann)
    await end(node, host, task.id, code=2)
    with pytest.raises(Conflict, match=f"task {task.id} had ended well, and that is failed.*after-any") as caught:
        await submit(host, ann, after=[str(task.id)])
    assert (caught.value.field, caught.value.value) == ("after", str(task.id))
    assert list(host.board.all()) == []
    await submit(host, ann, after_any=[str(task.id)])
    assert await host.scheduler.tick() == 1


@pytest.mark.parametrize("form", ["{}", "batch:{}"])
async def test_what_is_not_there_and_what_is_another_s_read_alike(host, ann, boss, node, form):
    (task,) = await submit(host, ann)
    bob = await add_account(host, "bob")
    with pytest.raises(NotFound) as foreign:
        await submit(host, bob, after=[form.format(task)])
    with pytest.raises(NotFound) as unknown:
        await submit(host, bob, after_any=[form.format(task + 1)])
    assert foreign.value.field == "after"
    assert foreign.value.message.replace(str(task), "X") == unknown.value.message.replace(str(task + 1), "X")
    await submit(host, boss, after=[form.format(task)])


async def test_a_viewer_cannot_wait_for_anything(host, ann):
    eve = await add_account(host, "eve", Role.VIEWER)
    (task,) = await submit(host, ann)
    with pytest.raises(NotAllowed):
        await submit(host, eve, after=[str(task)])


async def test_what_waits_may_be_paused_killed_and_approved_meanwhile(host, ann, node):
    task = await placed(host, ann, cores=0)
    (one,) = await submit(host, ann, cores=0, after=[str(task.id)])
    (two,) = await submit(host, ann, cores=0, after=[str(task.id)])
    await control.pause(host, ann, str(one))
    await control.kill(host, ann, str(two))
    await end(node, host, task.id)
    assert await host.scheduler.tick() == 0
    await control.resume(host, ann, str(one))
    assert await host.scheduler.tick() == 1
    assert not host.dependencies._watched
    assert not host.dependencies._keys


async def test_all_of_it_holds_over_a_restart_of_the_host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host)
        await node.connect()
        good, bad, open_ = [await running(host, ann, node, cores=0) for _ in range(3)]
        (fine,) = await submit(host, ann, cores=0, after=[str(good.id)])
        (waits,) = await submit(host, ann, cores=0, after=[str(good.id), f"batch:{open_.id}"])
        (vain,) = await submit(host, ann, after=[str(bad.id), str(open_.id)])
        (any_,) = await submit(host, ann, cores=0, after_any=[str(bad.id)])
        for task, code in ((good, 0), (bad, 1)):
            await node.tell("exited", task.attempt, **exited(code))
    async with opened_host(tmp_path, clock=clock) as host:
        (member,) = host.roster.live()
        node.host, node.member = host, member
        await node.connect(held=[link.Held(attempt=open_.attempt, phase="running")])
        assert await host.dependencies.tick()
        assert (await stored(host, vain)).status is Status.KILLED
        await host.scheduler.tick()
        assert {host.board.get(task).status for task in (fine, any_)} == {Status.ASSIGNED}
        assert (await reason(host, ann, waits, clock)).text == f"waits for 1 of 2 tasks; next {open_.id}"
        await node.tell("exited", open_.attempt, **exited(0))
        await host.scheduler.tick()
        assert host.board.get(waits).status is Status.ASSIGNED
        await agree(host)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_submit_that_is_not_stored_leaves_nothing_that_waits(host, ann, node, monkeypatch, gone):
    (task,) = await submit(host, ann)
    asked, go = asyncio.Event(), asyncio.Event()

    async def full(statements):
        asked.set()
        await go.wait()
        raise StorageFull("no space")

    with monkeypatch.context() as patched:
        patched.setattr(host.store.writer, "write", full)
        asking = asyncio.create_task(submit(host, ann, after=[str(task)]))
        await asked.wait()
        if gone:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        go.set()
        # the failure of a request that was given up comes before this one's
        with pytest.raises(StorageFull):
            await host.commits.write([])
        if not gone:
            with pytest.raises(StorageFull):
                await asking
    assert (host.dependencies._watched, host.dependencies._keys, host.dependencies._needs) == ({}, {}, {})


@pytest.mark.parametrize("failure", [StorageFull("no space"), MovedOn("it keeps changing")])
async def test_an_end_that_the_store_cannot_take_is_tried_again(host, ann, node, monkeypatch, failure):
    (task,) = await submit(host, ann)
    (after,) = await submit(host, ann, after=[str(task)])
    await control.kill(host, ann, str(task))

    async def full(*_args, **_more):
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(host.ledger, "record", full)
        assert not await host.dependencies.tick()
    assert host.board.get(after).status is Status.PENDING
    assert await host.dependencies.tick()
    assert (await stored(host, after)).status is Status.KILLED


async def test_an_end_looks_at_nobody_but_who_waits_for_it(host, ann, node):
    """5000 tasks wait for a batch; the end of one of its tasks is looked up by its id."""
    ids = await submit(host, ann, array="0-1", cores=0)
    await submit(host, ann, array="0-199", cores=0, after=[f"batch:{ids[0]}"])
    await host.scheduler.tick()
    key = Key(id=ids[0], batch=True)
    watched = host.dependencies._watched[key]

    class Counted(dict):
        looked = 0

        def items(self):
            Counted.looked += 1
            return super().items()

        def __iter__(self):
            Counted.looked += 1
            return super().__iter__()

    watched.waiters = Counted(watched.waiters)
    await end(node, host, ids[0])
    assert Counted.looked == 0
    await end(node, host, ids[1])
    assert Counted.looked == 1
