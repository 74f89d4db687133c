"""A host that knows less than its nodes, for its store was restored from an older copy (promise P11)."""

import pytest

from kohakuriver.domain.tasks import Status
from kohakuriver.errors import MovedOn
from kohakuriver.host.control import declare_lost, kill
from kohakuriver.store.models import EventRow
from kohakuriver.wire import link

from .kit import placed, running, stored


async def accepted(host, ann, node):
    task = await placed(host, ann)
    await node.tell("accepted", task.attempt)
    return host.board.get(task.id)


async def again(host, node, task, phase, **fields):
    """The next session of a node with which the task stands so; the attempts that it was told to run or to repeat."""
    await node.drop()
    pipe = await node.connect(held=[link.Held(attempt=task.attempt, phase=phase, **fields)])
    # a report that says nothing: what is acknowledged after it was sent before
    await node.tell("accepted", "77.1")
    return [assign.attempt for assign in pipe.of(link.Assign)]


@pytest.mark.parametrize(
    ("known", "phase", "asked"),
    [
        (placed, "running", True),
        (placed, "exited", True),
        (accepted, "accepted", False),
        (accepted, "running", True),
        (accepted, "closed", True),
        (running, "running", False),
        (running, "paused", False),
        (running, "exited", True),
    ],
)
async def test_a_node_that_is_further_is_asked_to_repeat_where_it_stands(host, ann, node, known, phase, asked):
    task = await known(host, ann, node) if known is not placed else await placed(host, ann)
    assert await again(host, node, task, phase) == ([task.attempt] if asked else [])


async def test_what_ended_after_the_copy_ends_here_too_and_starts_nowhere_again(host, ann, node):
    task = await placed(host, ann)
    await again(host, node, task, "exited")
    await node.tell("accepted", task.attempt)
    await node.tell("exited", task.attempt, exit=link.WireExit(code=7), stdout=link.Sealed(), stderr=link.Sealed())
    after = await stored(host, task.id)
    assert (after.status, after.exit.code, after.generation) == (Status.FAILED, 7, 1)


async def test_what_was_ended_before_it_started_by_a_wish_that_was_lost_does_not_wait_for_ever(host, ann, node):
    task = await placed(host, ann)
    await again(host, node, task, "closed")
    await node.tell("accepted", task.attempt)
    await node.tell("never_started", task.attempt)
    assert (await stored(host, task.id)).status is Status.FAILED


async def test_a_kill_counts_although_the_node_has_heard_later_wishes_than_are_known_here(host, ann, node):
    task = await running(host, ann, node)
    await again(host, node, task, "running", wish=5, wanted="run")
    await kill(host, ann, str(task.id))
    pipe = node.pipe
    await pipe.until(
        lambda: any(w.wanted == "killed" and w.revision > 5 for p in pipe.of(link.WantedSet) for w in p.wishes)
    )


async def test_a_pause_that_is_not_known_here_is_taken_back(host, ann, node):
    task = await running(host, ann, node)
    await again(host, node, task, "paused", wish=5, wanted="paused")
    (wish,) = [wish for page in node.pipe.of(link.WantedSet) for wish in page.wishes]
    assert (wish.wanted, wish.revision) == ("run", 6)


async def test_a_body_of_a_task_that_is_not_known_here_is_in_the_history_with_its_owner(host, ann, node):
    task = await running(host, ann, node)
    await node.tell("recovered", "77.1", found={"instance": "77.1", "phase": "running", "owner": "ann"})
    await node.tell("recovered", task.attempt, found={"instance": task.attempt, "phase": "running", "owner": "ann"})
    rows = await host.store.reader.of(EventRow).filter(what="recovered").values("detail")
    assert ['"owner":"ann"' in row["detail"] and "77.1" in row["detail"] for row in rows] == [True]


async def test_a_session_does_not_begin_before_what_stands_there_was_taken_back(host, ann, boss, node, monkeypatch):
    task = await running(host, ann, node)
    await declare_lost(host, boss, str(task.id), "burnt")
    await node.drop()
    held = [link.Held(attempt=task.attempt, phase="running")]
    with monkeypatch.context() as patch:

        async def busy(*_arguments):
            raise MovedOn("it keeps changing")

        patch.setattr(host.ledger, "record", busy)
        pipe = await node.connect(held=held)
    assert pipe.closed is not None
    assert not node.member.connected
    await node.connect(held=held)
    assert (await stored(host, task.id)).status is Status.RUNNING
