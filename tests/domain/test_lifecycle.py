"""The table of states, written a second time from the architecture, and every pair of status and event tried on it."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from kohakuriver.domain import events
from kohakuriver.domain import lifecycle as lc
from kohakuriver.domain.retries import CAUSES, FENCED, GONE, REBOOTED, Retry
from kohakuriver.domain.tasks import FINAL, HOLDING, Exit, Kind, Status, Task, TaskSpec, Wanted
from kohakuriver.errors import InvalidTransition

S = Status
BEFORE = datetime(2025, 1, 1, tzinfo=UTC)
NOW = BEFORE + timedelta(minutes=5)
REFUSED = None

EVENTS = {
    "approved": events.Approved(),
    "rejected": events.Rejected(reason="too big"),
    "never satisfied": events.NeverSatisfied(reason="task 3 failed"),
    "unobtainable": events.Unobtainable(reason="no such image"),
    "placed": events.Placed(node=4),
    "accepted": events.Accepted(),
    "refused for now": events.RefusedForNow(reason="busy"),
    "refused for good": events.RefusedForGood(reason="no such image"),
    "started": events.Started(),
    "start failed": events.StartFailed(reason="no such program"),
    "never started": events.NeverStarted(),
    "exited 0": events.Exited(exit=Exit(code=0)),
    "exited 3": events.Exited(exit=Exit(code=3)),
    "exited for memory": events.Exited(exit=Exit(code=137, oom=True)),
    "exited 0 for memory": events.Exited(exit=Exit(code=0, oom=True)),
    "exited unknown": events.Exited(exit=Exit(reason="the node restarted")),
    "exited by kill": events.Exited(exit=Exit(code=0), signalled=S.KILLED),
    "exited by limit": events.Exited(exit=Exit(code=143), signalled=S.TIMED_OUT),
    "exited by stop": events.Exited(exit=Exit(code=0), signalled=S.STOPPED),
    "paused": events.Paused(),
    "resumed": events.Resumed(),
    "limit": events.LimitReached(),
    "pause wanted": events.PauseWanted(),
    "resume wanted": events.ResumeWanted(),
    "kill wanted": events.KillWanted(),
    "stop wanted": events.StopWanted(),
    "requeue wanted": events.RequeueWanted(),
    "start wanted": events.StartWanted(),
    "deleted": events.Deleted(),
    "declared lost": events.DeclaredLost(reason="burnt"),
    "requeued": events.Requeued(reason="policy"),
}
BY_EXIT = {
    "exited 0": S.COMPLETED,
    "exited 3": S.FAILED,
    "exited for memory": S.KILLED_OOM,
    "exited 0 for memory": S.COMPLETED,
    "exited unknown": S.FAILED,
    "exited by kill": S.KILLED,
    "exited by limit": S.TIMED_OUT,
    "exited by stop": S.STOPPED,
}
WISHES = {"pause wanted": None, "resume wanted": None}
UNMET = {"kill wanted": S.KILLED, "never satisfied": S.KILLED, "unobtainable": S.FAILED}
LEAVES = {"kill wanted": S.STOPPING, "stop wanted": S.STOPPING, "declared lost": S.LOST, "requeued": S.PENDING}
AGAIN = {"requeue wanted": S.STOPPING}
#: architecture.md §5 for a VPS that is wanted to run; None as a status: it stays
TABLE = {
    S.PENDING_APPROVAL: {"approved": S.PENDING, "rejected": S.REJECTED, **UNMET, **WISHES},
    S.PENDING: {"placed": S.ASSIGNED, **UNMET, "stop wanted": S.STOPPED, **WISHES},
    S.ASSIGNED: {
        "accepted": S.STARTING,
        "refused for now": S.PENDING,
        "refused for good": S.FAILED,
        **LEAVES,
        **AGAIN,
        **WISHES,
    },
    S.STARTING: {"started": S.RUNNING, "start failed": S.FAILED, **BY_EXIT, **LEAVES, **AGAIN, **WISHES},
    S.RUNNING: {"paused": S.PAUSED, "limit": S.STOPPING, **BY_EXIT, **LEAVES, **AGAIN, **WISHES},
    S.PAUSED: {"resumed": S.RUNNING, "limit": S.STOPPING, **BY_EXIT, **LEAVES, **AGAIN, **WISHES},
    S.STOPPING: {
        **BY_EXIT,
        **LEAVES,
        "refused for now": S.KILLED,
        "refused for good": S.KILLED,
        "start failed": S.KILLED,
        "never started": S.KILLED,
        # reports that crossed the wish on their way: true, and overtaken
        **dict.fromkeys(("accepted", "started", "paused", "resumed", "limit")),
    },
    S.STOPPED: {"start wanted": S.PENDING, "deleted": S.REMOVED},
    S.LOST: {
        **BY_EXIT,
        "accepted": S.STARTING,
        "refused for now": S.PENDING,
        "refused for good": S.FAILED,
        "started": S.RUNNING,
        "start failed": S.FAILED,
        "never started": S.KILLED,
        "paused": S.PAUSED,
        "resumed": S.RUNNING,
        "limit": S.STOPPING,
    },
}


def task(status, *, kind=Kind.VPS, wanted=Wanted.RUN, node=4, **changes):
    generation = 0 if status in {S.PENDING_APPROVAL, S.PENDING} else 2
    return Task(
        **{
            "id": 7,
            "batch": 7,
            "owner": 1,
            "spec": TaskSpec(kind=kind),
            "status": status,
            "wanted": wanted,
            "wish": 3,
            "version": 10,
            "node": node if generation else None,
            "generation": generation,
            "submitted": BEFORE,
            "finished": BEFORE if status in FINAL else None,
            **changes,
        }
    )


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("name", EVENTS)
def test_each_event_in_each_status_does_what_the_table_says_and_nothing_else(status, name):
    before = task(status)
    row = TABLE.get(status, {})
    if name not in row:
        assert not lc.allowed(before, type(EVENTS[name])) or name in BY_EXIT
        with pytest.raises(InvalidTransition, match="task 7"):
            lc.apply(before, EVENTS[name], NOW)
        return
    after = lc.apply(before, EVENTS[name], NOW)
    assert after.status is (row[name] or status)
    assert after.version == before.version + 1
    assert after.generation == before.generation + (name == "placed")
    assert (after.finished == NOW) == (after.status in FINAL | {S.STOPPED})
    assert (after.wish > before.wish) == (after.wanted is not before.wanted or name == "start wanted")
    assert after.spec is before.spec


def test_every_kind_of_event_is_among_those_tried():
    assert {type(event) for event in EVENTS.values()} == set(get_args(events.Event))
    assert {(status, event) for status, event in lc.TRANSITIONS} == {
        (status, type(EVENTS[name])) for status, row in TABLE.items() for name in row
    }


def test_a_final_status_is_left_by_no_event_but_lost_by_a_report():
    left = {(status, event) for status, event in lc.TRANSITIONS if status in FINAL}
    assert {status for status, _ in left} == {S.LOST}
    assert {event for _, event in left} <= set(events.REPORTED)


@pytest.mark.parametrize("status", sorted(HOLDING | {S.PENDING}))
def test_only_a_vps_can_be_stopped(status):
    with pytest.raises(InvalidTransition, match="only a VPS"):
        lc.apply(task(status, kind=Kind.COMMAND), EVENTS["stop wanted"], NOW)


@pytest.mark.parametrize("wanted", [Wanted.PAUSED, Wanted.STOPPED, Wanted.KILLED])
def test_what_is_not_wanted_to_run_is_not_placed(wanted):
    with pytest.raises(InvalidTransition, match="placed while"):
        lc.apply(task(S.PENDING, wanted=wanted), EVENTS["placed"], NOW)


def test_a_vps_is_placed_on_the_node_of_its_disk_alone():
    waiting = task(S.PENDING, generation=1, node=None)
    bound = lc.apply(lc.apply(waiting, events.Placed(node=4), NOW), events.RefusedForNow(reason="busy"), NOW)
    with pytest.raises(InvalidTransition, match="its disk is on node 4"):
        lc.apply(bound, events.Placed(node=5), NOW)
    assert lc.apply(bound, events.Placed(node=4), NOW).generation == 3


def test_a_command_task_may_go_to_another_node():
    tried = lc.apply(task(S.ASSIGNED, kind=Kind.COMMAND), events.RefusedForNow(reason="busy"), NOW)
    assert lc.apply(tried, events.Placed(node=5), NOW).node == 5


@pytest.mark.parametrize(("wanted", "end"), [(Wanted.KILLED, S.KILLED), (Wanted.STOPPED, S.STOPPED)])
@pytest.mark.parametrize("name", ["refused for now", "refused for good", "start failed", "never started", "requeued"])
def test_what_was_wanted_ended_never_goes_back_to_the_queue(wanted, end, name):
    assert lc.apply(task(S.STOPPING, wanted=wanted), EVENTS[name], NOW).status is end
    if name != "requeued":
        assert lc.apply(task(S.LOST, wanted=wanted), EVENTS[name], NOW).status is end


@pytest.mark.parametrize("name", ["accepted", "started", "paused", "resumed", "limit"])
def test_a_lost_one_found_alive_is_ended_if_that_was_wanted(name):
    found = lc.apply(task(S.LOST, wanted=Wanted.KILLED, exit=Exit(reason="burnt")), EVENTS[name], NOW)
    assert found.status is S.STOPPING
    assert found.finished is None
    assert found.exit is None


def test_a_lost_one_found_alive_looks_as_if_it_had_never_been_lost():
    running = task(S.RUNNING, started=BEFORE)
    paused = lc.apply(lc.apply(running, EVENTS["declared lost"], NOW), EVENTS["paused"], NOW)
    assert (paused.status, paused.started, paused.finished, paused.exit) == (S.PAUSED, BEFORE, None, None)


def test_a_kill_overrules_a_stop_and_is_not_overruled_by_it():
    stopping = lc.apply(task(S.RUNNING), EVENTS["stop wanted"], NOW)
    killing = lc.apply(stopping, EVENTS["kill wanted"], NOW)
    assert (killing.wanted, killing.wish) == (Wanted.KILLED, 5)
    assert lc.apply(killing, EVENTS["stop wanted"], NOW).wanted is Wanted.KILLED
    assert lc.apply(killing, EVENTS["exited by stop"], NOW).status is S.KILLED


def test_a_command_task_cannot_be_reported_as_stopped():
    assert lc.apply(task(S.RUNNING, kind=Kind.COMMAND), EVENTS["exited by stop"], NOW).status is S.KILLED


@pytest.mark.parametrize("status", set(Status) - events.SIGNALLED)
def test_a_report_of_a_signal_that_nobody_sends_is_refused(status):
    with pytest.raises(ValueError, match="no signal"):
        events.Exited(exit=Exit(code=0), signalled=status)


@pytest.mark.parametrize("name", [name for name in BY_EXIT if name != "exited by stop"])
def test_the_exit_is_kept_as_the_runtime_told_it(name):
    assert lc.apply(task(S.RUNNING), EVENTS[name], NOW).exit == EVENTS[name].exit


def test_the_same_wish_twice_raises_the_revision_once():
    once = lc.apply(task(S.RUNNING), EVENTS["pause wanted"], NOW)
    twice = lc.apply(once, EVENTS["pause wanted"], NOW)
    assert (once.wish, twice.wish) == (4, 4)
    assert lc.apply(twice, EVENTS["resume wanted"], NOW).wish == 5


def test_a_stopped_vps_starts_afresh_with_its_node_and_its_generation():
    stopped = task(S.STOPPED, wanted=Wanted.STOPPED, exit=Exit(code=0), started=BEFORE, finished=BEFORE)
    again = lc.apply(stopped, EVENTS["start wanted"], NOW)
    assert (again.wanted, again.node, again.generation) == (Wanted.RUN, 4, 2)
    assert (again.exit, again.started, again.finished) == (None, None, None)


def retried(status=S.RUNNING, *, most=2, on=CAUSES, delay=0, kind=Kind.COMMAND, **changes):
    spec = TaskSpec(kind=kind, retry=Retry(most=most, on=tuple(on), delay=delay))
    return task(status, kind=kind, spec=spec, started=BEFORE, **changes)


@pytest.mark.parametrize(
    ("name", "cause"),
    [("exited 3", "failed"), ("exited for memory", "oom"), ("exited by limit", "timeout")],
)
@pytest.mark.parametrize("status", [S.STARTING, S.RUNNING, S.PAUSED, S.STOPPING])
def test_an_end_that_the_policy_names_leads_back_to_the_queue(name, cause, status):
    again = lc.apply(retried(status, on=[cause], delay=30), EVENTS[name], NOW)
    assert (again.status, again.retried, again.ready) == (S.PENDING, 1, NOW + timedelta(seconds=30))
    assert (again.started, again.finished, again.exit, again.generation) == (None, None, None, 2)
    others = [one for one in CAUSES if one != cause]
    assert lc.apply(retried(status, on=others), EVENTS[name], NOW).status is BY_EXIT[name]


@pytest.mark.parametrize("reason", [REBOOTED, GONE])
def test_a_node_that_lost_it_is_a_cause_of_its_own(reason):
    gone = events.Exited(exit=Exit(reason=reason))
    assert lc.apply(retried(on=["lost-node"]), gone, NOW).status is S.PENDING
    assert lc.apply(retried(on=["failed"]), gone, NOW).status is S.FAILED


def test_what_may_still_run_is_never_tried_again():
    unsure = events.Exited(exit=Exit(reason="given up; it could not be stopped"))
    assert lc.apply(retried(), unsure, NOW).status is S.FAILED
    assert lc.apply(retried(S.LOST, finished=BEFORE), EVENTS["exited 3"], NOW).status is S.FAILED


def test_tries_are_counted_and_end():
    last = retried(retried=1)
    once = lc.apply(last, EVENTS["exited 3"], NOW)
    assert (once.status, once.retried) == (S.PENDING, 2)
    placed = lc.apply(once, events.Placed(node=5), NOW)
    assert (placed.generation, placed.retried) == (3, 2)
    done = lc.apply(lc.apply(placed, events.Accepted(), NOW), EVENTS["exited 3"], NOW)
    assert (done.status, done.exit) == (S.FAILED, Exit(code=3))


def test_a_start_that_failed_is_a_failure_and_a_refusal_for_good_is_none():
    assert lc.apply(retried(S.STARTING), EVENTS["start failed"], NOW).status is S.PENDING
    assert lc.apply(retried(S.STARTING, on=["oom"]), EVENTS["start failed"], NOW).status is S.FAILED
    assert lc.apply(retried(S.ASSIGNED), EVENTS["refused for good"], NOW).status is S.FAILED


@pytest.mark.parametrize("name", ["exited 3", "exited for memory", "exited by limit", "exited by kill"])
def test_what_somebody_ended_is_never_tried_again(name):
    killed = retried(S.STOPPING, wanted=Wanted.KILLED)
    assert lc.apply(killed, EVENTS[name], NOW).status is BY_EXIT[name]
    assert lc.apply(retried(), EVENTS["exited by kill"], NOW).status is S.KILLED


def test_what_ended_well_is_done():
    assert lc.apply(retried(), EVENTS["exited 0"], NOW).status is S.COMPLETED


def test_a_machine_is_not_tried_again():
    assert lc.apply(retried(kind=Kind.VPS), EVENTS["exited 3"], NOW).status is S.FAILED


def test_a_retry_that_is_wanted_paused_waits_in_the_queue():
    again = lc.apply(retried(S.PAUSED, wanted=Wanted.PAUSED), EVENTS["exited 3"], NOW)
    assert (again.status, again.wanted) == (S.PENDING, Wanted.PAUSED)


@pytest.mark.parametrize(
    "name", ["exited 3", "exited for memory", "exited by kill", "exited by limit", "never started", "requeued"]
)
def test_what_is_wanted_again_ends_and_waits_anew(name):
    stopping = lc.apply(task(S.RUNNING, kind=Kind.COMMAND, started=BEFORE), EVENTS["requeue wanted"], NOW)
    assert (stopping.status, stopping.wanted, stopping.wish) == (S.STOPPING, Wanted.AGAIN, 4)
    again = lc.apply(stopping, EVENTS[name], NOW)
    assert (again.status, again.wanted, again.wish, again.retried) == (S.PENDING, Wanted.RUN, 5, 0)
    assert lc.apply(again, EVENTS["placed"], NOW).generation == 3


def test_what_ended_well_before_it_could_be_ended_is_done():
    stopping = lc.apply(task(S.RUNNING, kind=Kind.COMMAND), EVENTS["requeue wanted"], NOW)
    assert lc.apply(stopping, EVENTS["exited 0"], NOW).status is S.COMPLETED


def test_a_kill_overrules_another_attempt_and_is_not_overruled_by_it():
    killing = lc.apply(lc.apply(task(S.RUNNING), EVENTS["requeue wanted"], NOW), EVENTS["kill wanted"], NOW)
    assert (killing.wanted, lc.apply(killing, EVENTS["exited by kill"], NOW).status) == (Wanted.KILLED, S.KILLED)
    with pytest.raises(InvalidTransition, match="task 7 is stopping"):
        lc.apply(killing, EVENTS["requeue wanted"], NOW)


def test_what_was_given_up_does_not_begin_anew():
    lost = task(S.LOST, kind=Kind.COMMAND, wanted=Wanted.AGAIN)
    assert lc.apply(lost, EVENTS["never started"], NOW).status is S.KILLED
    assert lc.apply(lost, EVENTS["exited 3"], NOW).status is S.FAILED


def fenced(status=S.RUNNING, *, requeue=True, retry=None, **changes):
    spec = TaskSpec(requeue=requeue, retry=retry, lease=60)
    return task(status, spec=spec, **changes)


@pytest.mark.parametrize(
    "event",
    [
        events.Requeued(reason="silent"),
        events.Exited(exit=Exit(code=137, signal=9, reason=FENCED)),
        events.Exited(exit=Exit(reason=REBOOTED)),
        events.Exited(exit=Exit(reason=GONE)),
    ],
)
def test_what_goes_with_its_node_is_requeued_and_that_is_no_retry(event):
    again = lc.apply(fenced(), event, NOW)
    assert (again.status, again.retried, again.ready) == (S.PENDING, 0, None)
    counted = lc.apply(fenced(requeue=False, retry=Retry(most=1, on=("lost-node",), delay=30)), event, NOW)
    assert (counted.status, counted.retried) == (S.PENDING, 1)
    if not isinstance(event, events.Requeued):
        assert lc.apply(fenced(requeue=False), event, NOW).status is S.FAILED
        assert lc.apply(fenced(S.LOST), event, NOW).status is S.FAILED


def test_a_fenced_start_is_requeued_and_any_other_that_failed_is_not():
    assert lc.apply(fenced(S.STARTING), events.StartFailed(reason=FENCED), NOW).status is S.PENDING
    assert lc.apply(fenced(S.STARTING), events.StartFailed(reason="no program"), NOW).status is S.FAILED
    assert lc.apply(fenced(), events.Exited(exit=Exit(code=3)), NOW).status is S.FAILED
    assert lc.apply(fenced(), events.Exited(exit=Exit(code=0, reason=FENCED)), NOW).status is S.COMPLETED
