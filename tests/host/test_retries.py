"""Retries: a new attempt after an end that the policy names, with the old one's output, exit code and place kept apart."""

from datetime import timedelta

import pytest

from kohakuriver.domain.retries import REBOOTED
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import Invalid
from kohakuriver.host import control, tasks
from kohakuriver.host.output import read_output
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import agree, attempt_row, exited, held_rows, placed, running, stored, submit, told


def wrote(data, code=1, **fields):
    sealed = link.Sealed(size=len(data), head=len(data), data=data)
    return {"exit": link.WireExit(code=code, **fields), "stdout": sealed, "stderr": link.Sealed()}


async def again(host, peer, task, **fields):
    """The next attempt of a task that waits, ended so."""
    await host.scheduler.tick()
    attempt = host.board.get(task).attempt
    await peer.tell("accepted", attempt)
    await peer.tell("started", attempt)
    await peer.tell("exited", attempt, **fields)
    return attempt


async def read(host, actor, task, **how):
    reading = await read_output(host, actor, str(task), "stdout", **how)
    return b"".join([chunk async for chunk in reading.chunks])


async def test_a_failed_task_is_tried_again_and_both_attempts_stay_to_be_read(host, ann, node):
    task = await running(host, ann, node, retries=2)
    await node.tell("exited", task.attempt, **wrote(b"first\n", 3))
    waits = await stored(host, task.id)
    assert (waits.status, waits.retried, waits.generation, waits.exit) == (Status.PENDING, 1, 1, None)
    assert await held_rows(host, task.id) == []
    await agree(host)
    await host.scheduler.tick()
    second = host.board.get(task.id)
    assert (second.status, second.attempt, second.instance) == (Status.ASSIGNED, f"{task.id}.2", f"{task.id}.2")
    assert (await node.pipe.heard(link.Assign, 2)).attempt == second.attempt
    await node.tell("accepted", second.attempt)
    await node.tell("started", second.attempt)
    await node.tell("exited", second.attempt, **wrote(b"second\n", 0))
    assert (await stored(host, task.id)).status is Status.COMPLETED
    assert await read(host, ann, task.id, attempt=1) == b"first\n"
    assert await read(host, ann, task.id) == b"second\n"
    runs = (await tasks.attempts(host, ann, str(task.id))).items
    assert [(run.attempt, run.exit.code, run.stdout_bytes) for run in runs] == [(1, 3, 6), (2, 0, 7)]
    rows = (await tasks.history(host, ann, str(task.id))).items
    tried = next(row for row in rows if row.detail.get("retry"))
    assert (tried.what, tried.detail["code"], tried.detail["retry"], tried.detail["to"]) == (
        "exited", 3, "1 of 2", "pending",
    )  # fmt: skip
    await agree(host)


async def test_the_last_end_counts_when_no_try_is_left(host, ann, node):
    task = await running(host, ann, node, retries=1)
    await node.tell("exited", task.attempt, **exited(3))
    await again(host, node, task.id, **exited(4))
    ended = await stored(host, task.id)
    assert (ended.status, ended.exit.code, ended.retried, ended.generation) == (Status.FAILED, 4, 1, 2)
    view = (await tasks.show_task(host, ann, str(task.id))).retry
    assert (view.most, view.on, view.retried) == (1, ["failed"], 1)


async def test_between_the_tries_passes_the_time_that_was_asked_for(host, ann, node, clock):
    task = await running(host, ann, node, retries=1, retry_delay=30)
    await node.tell("exited", task.attempt, **exited(1))
    waits = await stored(host, task.id)
    assert waits.ready == clock.now() + timedelta(seconds=30)
    assert await host.scheduler.tick() == 0
    clock.advance(29)
    await node.drop()
    await node.connect()
    assert await host.scheduler.tick() == 0
    clock.advance(1)
    assert await host.scheduler.tick() == 1
    assert (await stored(host, task.id)).ready is None


@pytest.mark.parametrize("when", ["running", "waiting"])
async def test_what_somebody_ended_is_not_tried_again(host, ann, node, when):
    task = await running(host, ann, node, retries=5, retry_on=["failed", "oom", "timeout"])
    if when == "waiting":
        await node.tell("exited", task.attempt, **exited(1))
        await control.kill(host, ann, str(task.id))
    else:
        await control.kill(host, ann, str(task.id))
        await node.tell("exited", task.attempt, **exited(1))
    assert (await stored(host, task.id)).status is {"running": Status.FAILED, "waiting": Status.KILLED}[when]
    assert host.board.get(task.id) is None
    assert await host.scheduler.tick() == 0


@pytest.mark.parametrize(
    ("on", "fields", "tried"),
    [
        (["oom"], {"exit": link.WireExit(code=137, oom=True)}, True),
        (["failed"], {"exit": link.WireExit(code=137, oom=True)}, False),
        (["timeout"], {"exit": link.WireExit(code=143), "signalled": "timed_out"}, True),
        (["failed"], {"exit": link.WireExit(code=143), "signalled": "timed_out"}, False),
        (["lost-node"], {"exit": link.WireExit(reason=REBOOTED)}, True),
        (["failed"], {"exit": link.WireExit(reason=REBOOTED)}, False),
        (["failed"], {"exit": link.WireExit(code=1)}, True),
        (["oom", "timeout", "lost-node"], {"exit": link.WireExit(code=1)}, False),
    ],
)
async def test_only_the_causes_that_were_named_count(host, ann, node, on, fields, tried):
    task = await running(host, ann, node, retries=1, retry_on=on)
    await node.tell("exited", task.attempt, stdout=link.Sealed(), stderr=link.Sealed(), **fields)
    assert (host.board.get(task.id) is not None) is tried


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"retry_on": ["failed"]}, "retry_on"),
        ({"retry_delay": 5}, "retry_delay"),
        ({"retries": 1, "retry_on": ["bad luck"]}, "retry_on"),
    ],
)
async def test_a_policy_that_means_nothing_is_refused(host, ann, node, fields, field):
    with pytest.raises(Invalid) as caught:
        await submit(host, ann, **fields)
    assert caught.value.field == field


async def test_a_whole_life_in_one_batch_of_reports_is_tried_again_without_a_rest_for_the_node(host, ann, node):
    """A task that is over before anything was committed of it: its node refused nothing, so it gets the next at once."""
    task = await placed(host, ann, retries=1)
    reports = [node.report(what, task.attempt) for what in ("accepted", "started")]
    await node.send(*reports, node.report("exited", task.attempt, **wrote(b"x", 1)))
    assert host.board.get(task.id).status is Status.PENDING
    assert await host.scheduler.tick() == 1
    assert host.board.get(task.id).generation == 2


async def test_a_late_report_of_the_attempt_before_changes_nothing(host, ann, node):
    task = await running(host, ann, node, retries=1)
    await node.tell("exited", task.attempt, **exited(1))
    await host.scheduler.tick()
    await node.tell("exited", task.attempt, **exited(0))
    assert host.board.get(task.id).status is Status.ASSIGNED
    assert (await attempt_row(host, task.attempt))["exit_code"] == 1


async def test_the_body_of_the_attempt_before_is_let_go(host, ann, node):
    task = await running(host, ann, node, retries=1)
    await node.tell("exited", task.attempt, **wrote(b"first", 1))
    assert (await node.pipe.heard(link.Forget)).attempts == [task.attempt]


async def test_who_waits_for_it_waits_for_its_last_end(host, ann, node):
    task = await running(host, ann, node, retries=1, cores=0)
    (after,) = await submit(host, ann, cores=0, after=[str(task.id)])
    await node.tell("exited", task.attempt, **exited(1))
    await host.dependencies.tick()
    assert host.board.get(after) is not None
    await again(host, node, task.id, **exited(0))
    await host.scheduler.tick()
    assert host.board.get(after).status is Status.ASSIGNED


async def test_tries_and_times_are_kept_over_a_restart_of_the_host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host)
        await node.connect()
        task = await running(host, ann, node, retries=1, retry_delay=30)
        await node.tell("exited", task.attempt, **exited(1))
        before = await stored(host, task.id)
    async with opened_host(tmp_path, clock=clock) as host:
        (member,) = host.roster.live()
        node.host, node.member = host, member
        await node.connect()
        assert host.board.get(task.id) == before
        assert await host.scheduler.tick() == 0
        clock.advance(30)
        await node.drop()
        await node.connect()
        await again(host, node, task.id, **exited(5))
        assert (await stored(host, task.id)).status is Status.FAILED


async def test_following_the_next_attempt_waits_for_it(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 0.05)
    task = await running(host, ann, node, retries=1)
    await node.tell("exited", task.attempt, **wrote(b"first", 1))
    following = host.group.create_task(read(host, ann, task.id, attempt=2, follow=True))
    await again(host, node, task.id, **wrote(b"second", 0))
    assert await following == b"second"
    assert await read(host, ann, task.id, attempt=1, follow=True) == b"first"
    assert (await told(host, task.id)).count("placed") == 2
