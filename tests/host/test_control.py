"""Kill, pause, resume and giving up, at every status a task can have."""

import asyncio

import pytest

from kohakuriver.domain.tasks import Status, Wanted
from kohakuriver.errors import Conflict, InvalidTransition, NotAllowed, NotFound
from kohakuriver.host import control, tasks
from kohakuriver.store.models import EventRow
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import link

from .kit import agree, exited, held_rows, placed, running, stored, submit, told

WORDS = ("pending", "assigned", "starting", "running", "paused", "stopping")


async def at(host, ann, node, word):
    """A task with this status."""
    if word == "pending":
        return host.board.get((await submit(host, ann))[0])
    task = await placed(host, ann)
    if word in {"starting", "running", "paused", "stopping"}:
        await node.tell("accepted", task.attempt)
    if word in {"running", "paused", "stopping"}:
        await node.tell("started", task.attempt)
    if word == "paused":
        await control.pause(host, ann, str(task.id))
        await node.tell("paused", task.attempt)
    if word == "stopping":
        await node.tell("limit_reached", task.attempt)
    found = host.board.get(task.id)
    assert found.status == word
    return found


@pytest.mark.parametrize("word", WORDS)
async def test_a_kill_holds_from_every_status_to_the_end(host, ann, node, word):
    task = await at(host, ann, node, word)
    shown = await control.kill(host, ann, str(task.id))
    if word == "pending":
        assert shown.status == "killed"
        return
    assert (shown.status, shown.wanted) == ("stopping", "killed")
    assert len(await held_rows(host, task.id)) == 1
    # what crossed the wish on its way cannot take it back
    for what in ("accepted", "started", "paused", "resumed", "limit_reached"):
        await node.tell(what, task.attempt)
    now = host.board.get(task.id)
    assert (now.status, now.wanted) == (Status.STOPPING, Wanted.KILLED)
    await node.tell("exited", task.attempt, **exited(None, signalled="killed"))
    assert (await stored(host, task.id)).status is Status.KILLED
    assert await held_rows(host, task.id) == []
    await agree(host)


@pytest.mark.parametrize("what", ["never_started", "refused_for_now", "refused_for_good", "start_failed", "unknown"])
@pytest.mark.parametrize("word", ["assigned", "starting"])
async def test_a_kill_before_the_start_ends_as_killed_whatever_the_node_answers(host, ann, node, word, what):
    task = await at(host, ann, node, word)
    await control.kill(host, ann, str(task.id))
    await node.tell(what, task.attempt)
    final = await stored(host, task.id)
    assert (final.status, final.started) == (Status.KILLED, None)
    await host.scheduler.tick()
    assert (await stored(host, task.id)).generation == 1


async def test_a_kill_that_came_too_late_leaves_the_true_end(host, ann, node):
    task = await running(host, ann, node)
    await control.kill(host, ann, str(task.id))
    await node.tell("exited", task.attempt, **exited(0))
    final = await stored(host, task.id)
    assert (final.status, final.exit.code) == (Status.COMPLETED, 0)


async def test_a_second_kill_changes_nothing_and_writes_nothing(host, ann, node):
    task = await running(host, ann, node)
    await control.kill(host, ann, str(task.id))
    before = host.board.get(task.id)
    answers = await asyncio.gather(*(control.kill(host, ann, str(task.id)) for _ in range(20)))
    assert {answer.status for answer in answers} == {"stopping"}
    assert host.board.get(task.id) == before
    assert (await told(host, task.id)).count("kill_wanted") == 1


async def test_a_second_kill_with_another_grace_is_a_new_wish(host, ann, node):
    task = await running(host, ann, node, grace=600)
    await control.kill(host, ann, str(task.id))
    await control.kill(host, ann, str(task.id), grace=0)
    await node.tell("unknown", "1.1")
    wishes = [(w.wanted, w.revision, w.grace) for page in node.pipe.of(link.WantedSet) for w in page.wishes]
    assert wishes == [("killed", 1, 600), ("killed", 2, 0)]
    assert (await stored(host, task.id)).spec.grace == 0
    await agree(host)


async def test_what_has_ended_cannot_be_changed_any_more(host, ann, boss, node):
    task = await running(host, ann, node)
    await node.tell("exited", task.attempt, **exited())
    before = await stored(host, task.id)
    for change in (control.kill, control.pause, control.resume):
        with pytest.raises(InvalidTransition) as refused:
            await change(host, ann, str(task.id))
        assert isinstance(refused.value, Conflict)
        assert "completed" in str(refused.value)
    with pytest.raises(Conflict):
        await control.declare_lost(host, boss, str(task.id), "too late")
    with pytest.raises(Conflict):
        await control.approve(host, boss, str(task.id))
    assert await stored(host, task.id) == before


@pytest.mark.parametrize("word", WORDS)
async def test_a_pause_holds_at_every_status_until_resume(host, ann, node, clock, word):
    task = await at(host, ann, node, word)
    if word == "stopping":
        with pytest.raises(Conflict):
            await control.pause(host, ann, str(task.id))
        return
    shown = await control.pause(host, ann, str(task.id))
    assert shown.wanted == "paused"
    await host.scheduler.tick()
    now = host.board.get(task.id)
    assert now.status == word
    if word == "pending":
        assert (await tasks.show_task(host, ann, str(task.id))).reason.code == "paused"
        await control.resume(host, ann, str(task.id))
        await host.scheduler.tick()
        assert host.board.get(task.id).status is Status.ASSIGNED
        return
    if word == "running":
        await node.tell("paused", task.attempt)
        assert host.board.get(task.id).status is Status.PAUSED
    await control.resume(host, ann, str(task.id))
    assert host.board.get(task.id).wanted is Wanted.RUN


async def test_a_pause_before_the_start_rides_with_the_assignment(host, ann, node):
    task = await placed(host, ann)
    await node.drop()
    await control.pause(host, ann, str(task.id))
    pipe = await node.connect()
    assert (await pipe.heard(link.Assign)).wanted == "paused"
    await node.tell("accepted", task.attempt)
    assert host.board.get(task.id).status is Status.STARTING


async def test_a_refused_attempt_of_a_paused_task_waits_paused(host, ann, node, clock):
    task = await placed(host, ann)
    await control.pause(host, ann, str(task.id))
    await node.tell("refused_for_now", task.attempt)
    clock.advance(5)
    node.pipe.feed(link.Heartbeat())
    await host.scheduler.tick()
    assert (host.board.get(task.id).status, host.board.get(task.id).generation) == (Status.PENDING, 1)


async def test_pause_and_kill_at_once_end_killed(host, ann, node):
    task = await running(host, ann, node)
    ref = str(task.id)
    changes = [control.pause, control.kill, control.resume, control.pause]
    await asyncio.gather(*(change(host, ann, ref) for change in changes), return_exceptions=True)
    now = host.board.get(task.id)
    assert (now.status, now.wanted) == (Status.STOPPING, Wanted.KILLED)
    await agree(host)


async def test_only_its_owner_and_operators_touch_a_task(host, ann, boss, node):
    bob = await add_account(host, "bob")
    task = await running(host, ann, node)
    for change in (control.kill, control.pause, control.resume):
        with pytest.raises(NotFound):
            await change(host, bob, str(task.id))
    with pytest.raises(NotAllowed):
        await control.declare_lost(host, ann, str(task.id), "mine")
    assert host.board.get(task.id) == task
    await control.kill(host, boss, str(task.id))
    row = (await host.store.reader.of(EventRow).filter(task=task.id, what="kill_wanted").values())[0]
    assert (row["actor"], row["actor_id"]) == ("boss", boss.id)


async def test_giving_up_frees_what_it_held_and_says_who_did_it_and_why(host, ann, boss, node):
    task = await running(host, ann, node, cores=4)
    (waiting,) = await submit(host, ann, cores=4)
    shown = await control.declare_lost(host, boss, str(task.id), "the machine burnt down")
    assert (shown.status, shown.exit.reason) == ("lost", "the machine burnt down")
    await host.scheduler.tick()
    assert host.board.get(waiting).status is Status.ASSIGNED
    assert (await told(host, task.id))[-1] == "declared_lost"


async def test_waiting_ends_with_the_task(host, ann, node):
    task = await running(host, ann, node)
    waiting = asyncio.gather(*(tasks.wait_task(host, ann, str(task.id), 60) for _ in range(10)))
    await asyncio.sleep(0)
    await node.tell("exited", task.attempt, **exited(3))
    assert {(shown.status, shown.exit.code) for shown in await waiting} == {("failed", 3)}
    assert (await tasks.wait_task(host, ann, str(task.id), 60)).status == "failed"
    assert host.ends._waiting == {}


async def test_waiting_that_is_given_up_leaves_nothing_behind(host, ann, node):
    task = await running(host, ann, node)
    assert (await tasks.wait_task(host, ann, str(task.id), 0)).status == "running"
    waiting = asyncio.create_task(tasks.wait_task(host, ann, str(task.id), 60))
    while not host.ends._waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert host.ends._waiting == {}


@pytest.mark.parametrize("ref", ["9" * 19, "9" * 400, "0", "-1", "1.1", "\0", "", "٣", "no such name", "1e5", "0000"])
async def test_a_word_that_means_no_task_is_told_so(host, ann, ref):
    with pytest.raises(NotFound):
        await tasks.show_task(host, ann, ref)
