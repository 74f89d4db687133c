"""Requeue: another attempt for what is on a silent node, only once the node has certainly ended the present one."""

import pytest

from kohakuriver.domain.retries import FENCED, REBOOTED
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import InvalidTransition
from kohakuriver.host import control, nodes, tasks
from kohakuriver.host.liveness import Liveness
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import agree, attempt_row, exited, held_rows, placed, running, stored, submit, told

LEASE, MARGIN = 60, 15


def watch(host):
    return Liveness(
        roster=host.roster, ledger=host.ledger, changes=host.changes, clock=host.clock, lost_after=None, margin=MARGIN
    )


async def tick_after(host, clock, seconds):
    clock.advance(seconds)
    await watch(host).tick()


@pytest.fixture
async def gone(host, ann, node):
    """A fenced task that runs on a node that is silent from now on."""
    task = await running(host, ann, node, requeue=True)
    await node.drop()
    return task


async def test_the_node_is_told_of_the_lease_and_renews_it(host, ann, node):
    await node.drop()
    await node.connect(features=["lease"])
    task = await placed(host, ann, requeue=True)
    (plain,) = await submit(host, ann)
    await host.scheduler.tick()
    assigned = {one.attempt: one.lease for one in [await node.pipe.heard(link.Assign, n) for n in (1, 2)]}
    assert assigned == {task.attempt: 60.0, f"{plain}.1": None}
    node.pipe.feed(link.Heartbeat(number=7))
    assert (await node.pipe.heard(link.Renew)).number == 7
    assert link.LEASE in (await node.pipe.heard(link.Welcome)).features


async def test_a_runner_that_knows_no_leases_gets_no_fenced_task_and_no_renewal(host, ann, node):
    task = await placed(host, ann, requeue=True)
    node.pipe.feed(link.Heartbeat(number=7))
    (plain,) = await submit(host, ann)
    await host.scheduler.tick()
    await node.pipe.heard(link.Assign)
    assert [one.attempt for one in node.pipe.of(link.Assign)] == [f"{plain}.1"]
    assert node.pipe.of(link.Renew) == []
    await watch(host).tick()
    assert (await stored(host, task.id)).exit.reason == "the runner of node node1 knows no leases; update it"


async def test_it_waits_for_lease_and_margin_and_not_a_second_less(host, ann, gone, clock):
    await tick_after(host, clock, LEASE + MARGIN - 1)
    assert host.board.get(gone.id).status is Status.RUNNING
    await tick_after(host, clock, 1)
    again = await stored(host, gone.id)
    assert (again.status, again.retried, again.generation, again.wanted) == (Status.PENDING, 0, 1, "run")
    assert await held_rows(host, gone.id) == []
    row = await attempt_row(host, gone.attempt)
    assert (row["state"], row["exit_reason"]) == ("requeued", "node node1 was silent for 75 s, its lease is 60 s")
    assert row["finished"] is not None
    event = (await tasks.history(host, ann, str(gone.id))).items[-1]
    assert (event.what, event.actor, event.detail["from"], event.detail["to"]) == (
        "requeued",
        "lease",
        "running",
        "pending",
    )
    assert "75 s" in event.detail["reason"]
    await agree(host)


async def test_a_node_that_is_heard_keeps_what_it_has(host, ann, node, clock):
    task = await running(host, ann, node, requeue=True)
    for _ in range(10):
        clock.advance(LEASE)
        node.pipe.feed(link.Heartbeat(number=1))
        await node.tell("resumed", "1.1")
        await watch(host).tick()
    assert host.board.get(task.id).status is Status.RUNNING


async def test_without_the_policy_silence_ends_nothing(host, ann, node, clock):
    plain = await running(host, ann, node)
    await node.drop()
    await tick_after(host, clock, 10**6)
    assert host.board.get(plain.id).status is Status.RUNNING


@pytest.mark.parametrize("state", ["assigned", "starting", "paused"])
async def test_wherever_it_stands_it_goes_back_to_the_queue(host, ann, node, clock, state):
    task = await placed(host, ann, requeue=True)
    if state != "assigned":
        await node.tell("accepted", task.attempt)
    if state == "paused":
        await node.tell("started", task.attempt)
        await node.tell("paused", task.attempt)
    await node.drop()
    await tick_after(host, clock, LEASE + MARGIN)
    assert host.board.get(task.id).status is Status.PENDING


async def test_the_next_attempt_runs_elsewhere_and_the_old_one_says_nothing_that_counts(host, ann, node, gone, clock):
    other = await add_node(host, "node2")
    await tick_after(host, clock, LEASE + MARGIN)
    await other.connect(features=["lease"])
    assert await host.scheduler.tick() == 1
    second = host.board.get(gone.id)
    assert (second.attempt, host.roster.name_of(second.node)) == (f"{gone.id}.2", "node2")
    await other.tell("accepted", second.attempt)
    await other.tell("started", second.attempt)
    back = await node.connect(held=[link.Held(attempt=gone.attempt, phase="exited")])
    await node.tell("exited", gone.attempt, exit=link.WireExit(code=137, signal=9, reason=FENCED))
    assert host.board.get(gone.id) == await stored(host, gone.id)
    assert host.board.get(gone.id).status is Status.RUNNING
    assert (await attempt_row(host, gone.attempt))["state"] == "requeued"
    assert gone.attempt in (await back.heard(link.Forget)).attempts
    await other.tell("exited", second.attempt, **exited(0))
    assert (await stored(host, gone.id)).status is Status.COMPLETED
    await agree(host)


@pytest.mark.parametrize("when", ["waits", "runs elsewhere", "has ended"])
async def test_what_stands_on_the_old_node_all_the_same_is_ended(host, ann, node, gone, clock, when):
    """A runner that broke its word: nothing is adopted, and an explicit wish ends it."""
    await tick_after(host, clock, LEASE + MARGIN)
    if when != "waits":
        other = await add_node(host, "node2")
        await other.connect(features=["lease"])
        await host.scheduler.tick()
    if when == "has ended":
        second = host.board.get(gone.id).attempt
        for what, fields in (("accepted", {}), ("started", {}), ("exited", exited(0))):
            await other.tell(what, second, **fields)
    back = await node.connect(held=[link.Held(attempt=gone.attempt, phase="running", wish=4)])
    await back.until(lambda: any(page.wishes for page in back.of(link.WantedSet)))
    wishes = [wish for page in back.of(link.WantedSet) for wish in page.wishes]
    assert [(wish.attempt, wish.wanted, wish.revision) for wish in wishes] == [(gone.attempt, "killed", 5)]


async def test_a_lease_that_ran_out_is_told_by_the_node_itself(host, ann, node, clock):
    """It comes back between lease and margin, and has ended what it held."""
    task = await running(host, ann, node, requeue=True)
    await node.drop()
    await tick_after(host, clock, LEASE + 5)
    await node.connect(held=[link.Held(attempt=task.attempt, phase="exited")])
    empty = link.Sealed()
    await node.tell(
        "exited", task.attempt, exit=link.WireExit(code=137, signal=9, reason=FENCED), stdout=empty, stderr=empty
    )
    assert host.board.get(task.id).status is Status.PENDING
    assert (await attempt_row(host, task.attempt))["state"] == "exited"
    await host.scheduler.tick()
    assert host.board.get(task.id).generation == 2


async def test_a_node_that_was_booted_gives_it_back(host, ann, node):
    task = await running(host, ann, node, requeue=True)
    empty = link.Sealed()
    await node.tell("exited", task.attempt, exit=link.WireExit(reason=REBOOTED), stdout=empty, stderr=empty)
    assert host.board.get(task.id).status is Status.PENDING


async def test_as_a_retry_it_counts(host, ann, node, clock):
    task = await running(host, ann, node, retries=1, retry_on=["lost-node"])
    await node.drop()
    await tick_after(host, clock, LEASE + MARGIN)
    again = host.board.get(task.id)
    assert (again.status, again.retried) == (Status.PENDING, 1)
    await node.connect(features=["lease"])
    await host.scheduler.tick()
    await node.drop()
    await tick_after(host, clock, 10**4)
    assert host.board.get(task.id).status is Status.ASSIGNED


async def test_a_kill_of_what_is_gone_ends_it_after_the_lease(host, ann, gone, clock):
    await control.kill(host, ann, str(gone.id))
    assert host.board.get(gone.id).status is Status.STOPPING
    await tick_after(host, clock, LEASE + MARGIN)
    assert (await stored(host, gone.id)).status is Status.KILLED


async def test_a_revoked_node_gives_back_what_it_held(host, ann, boss, gone, clock):
    admin = await add_account(host, "admin", boss.role.__class__.ADMIN)
    await nodes.revoke(host, admin, "node1", "stolen")
    await tick_after(host, clock, LEASE + MARGIN)
    assert host.board.get(gone.id).status is Status.PENDING


async def test_a_host_that_starts_counts_from_its_own_start(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host)
        await node.connect()
        task = await running(host, ann, node, requeue=True)
    clock.advance(1000)
    async with opened_host(tmp_path, clock=clock) as host:
        watching = watch(host)
        clock.advance(LEASE + MARGIN - 1)
        await watching.tick()
        assert host.board.get(task.id).status is Status.RUNNING
        clock.advance(1)
        await watching.tick()
        assert host.board.get(task.id).status is Status.PENDING


async def test_somebody_wants_another_attempt(host, ann, node):
    task = await running(host, ann, node)
    assert (await control.requeue(host, ann, str(task.id))).wanted == "again"
    wish = (await node.pipe.heard(link.WantedSet, 2)).wishes[0]
    assert (wish.attempt, wish.wanted) == (task.attempt, "killed")
    host.dispatch.tick()
    await node.tell("exited", task.attempt, **exited(143), signalled="killed")
    assert host.board.get(task.id).status is Status.PENDING
    await host.scheduler.tick()
    assert host.board.get(task.id).attempt == f"{task.id}.2"
    assert (await told(host, task.id))[-3:] == ["requeue_wanted", "exited", "placed"]


async def test_another_attempt_of_what_waits_or_has_ended_is_refused(host, ann, node):
    (task,) = await submit(host, ann, cores=4)
    with pytest.raises(InvalidTransition, match="cannot be sent back"):
        await control.requeue(host, ann, str(task))
    await host.scheduler.tick()
    await control.kill(host, ann, str(task))
    with pytest.raises(InvalidTransition, match="cannot be sent back"):
        await control.requeue(host, ann, str(task))
