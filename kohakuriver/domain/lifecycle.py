"""The table of states. What may become of a task is decided here and nowhere else.

1. `apply` is the only way from one task value to the next; `host/ledger.py` is its only caller that writes.
2. A final status never changes, except `lost`, by a report of the generation that was lost.
3. The wish revision rises whenever the wish changes; the generation rises only with `Placed`.
4. A wish to end it is never forgotten: while killed or stopped is wanted, a task stands in `stopping` or at its end.
5. An end that the task's policy retries leads to `pending` instead, unless somebody wanted it ended or it was given up.
6. No effects come out: what must be done is derived from rows by `host/dispatch.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from kohakuriver.domain.events import (
    ASKED,
    Accepted,
    Approved,
    DeclaredLost,
    Deleted,
    Event,
    Exited,
    KillWanted,
    LimitReached,
    NeverSatisfied,
    NeverStarted,
    Paused,
    PauseWanted,
    Placed,
    RefusedForGood,
    RefusedForNow,
    Rejected,
    Requeued,
    RequeueWanted,
    Resumed,
    ResumeWanted,
    Started,
    StartFailed,
    StartWanted,
    StopWanted,
    Unobtainable,
)
from kohakuriver.domain.retries import FAILED, FENCED, LOST_NODE, OOM, TIMEOUT, UNSEEN
from kohakuriver.domain.tasks import FINAL, HOLDING, Exit, Kind, Status, Task, Wanted
from kohakuriver.errors import InvalidTransition

#: wishes to end the attempt; after `again`, and of a stopped VPS, another one is wanted
ENDING = frozenset({Wanted.KILLED, Wanted.STOPPED, Wanted.AGAIN})


#: how a policy calls an end
_CAUSES = {Status.FAILED: FAILED, Status.KILLED_OOM: OOM, Status.TIMED_OUT: TIMEOUT}

Handler = Callable[[Task, Event, datetime], Task]


def apply(task: Task, event: Event, now: datetime) -> Task:
    """The task after the event. Raises InvalidTransition with the task's story when the table has no such edge."""
    handler = TRANSITIONS.get((task.status, type(event)))
    if handler is None:
        raise InvalidTransition(_story(task, event))
    return replace(handler(task, event, now), version=task.version + 1)


def _story(task: Task, event: Event) -> str:
    asked = ASKED.get(type(event))
    if asked is None:
        return f"task {task.id}: {type(event).__name__} while {task.status}"
    return f"task {task.id} is {task.status.value.replace('_', ' ')}: it cannot be {asked}"


def allowed(task: Task, event: type[Event]) -> bool:
    """Whether the table has an edge for this kind of event from where the task stands."""
    return (task.status, event) in TRANSITIONS


def _to(status: Status) -> Handler:
    def handler(task: Task, _event: Event, now: datetime) -> Task:
        if status in FINAL or status is Status.STOPPED:
            return replace(task, status=status, finished=now)
        return replace(task, status=status)

    return handler


def _ended(task: Task, event: Event, now: datetime) -> Task:
    if task.wanted in ENDING:
        return _as_wanted(task, event, now)
    reason = getattr(event, "reason", None)
    return replace(_to(Status.FAILED)(task, event, now), exit=Exit(reason=reason))


def _rejected(task: Task, event: Event, now: datetime) -> Task:
    return replace(_to(Status.REJECTED)(task, event, now), exit=Exit(reason=getattr(event, "reason", None)))


def _placed(task: Task, event: Event, _now: datetime) -> Task:
    assert isinstance(event, Placed)
    if task.wanted is not Wanted.RUN:
        raise InvalidTransition(f"task {task.id}: placed while {task.wanted} is wanted")
    if task.spec.kind is Kind.VPS and task.node not in {None, event.node}:
        raise InvalidTransition(f"task {task.id}: its disk is on node {task.node}, so it cannot be placed elsewhere")
    return replace(
        task,
        status=Status.ASSIGNED,
        node=event.node,
        generation=task.generation + 1,
        ready=None,
        started=None,
        finished=None,
        exit=None,
    )


def _back_to_queue(task: Task, event: Event, now: datetime) -> Task:
    """Waits for the next attempt; but what was wanted ended has ended, for its attempt is certainly not alive."""
    if task.wanted in ENDING:
        return _as_wanted(task, event, now)
    return replace(task, status=Status.PENDING, started=None, finished=None, exit=None)


def _requeued(task: Task, event: Event, now: datetime) -> Task:
    """Its attempt certainly does not run any more. With `requeue` it counts as no retry, however often it happens."""
    again = None if task.spec.requeue else _again(task, LOST_NODE, now)
    return again or _back_to_queue(task, event, now)


def requeues(task: Task) -> bool:
    """Whether it leaves a node whose leases have run out: to the queue, or to the end that was wanted."""
    if task.spec.lease is None or task.status not in HOLDING:
        return False
    return task.spec.requeue or task.wanted in ENDING or _again(task, LOST_NODE, task.submitted) is not None


def _anew(task: Task) -> Task:
    """Ended as it was wanted again: it waits like any other."""
    waits = replace(task, status=Status.PENDING, started=None, finished=None, exit=None)
    return replace(waits, wanted=Wanted.RUN, wish=task.wish + 1)


def _started(task: Task, _event: Event, now: datetime) -> Task:
    return replace(task, status=Status.RUNNING, started=task.started or now)


def _started_while_stopping(task: Task, _event: Event, now: datetime) -> Task:
    return replace(task, started=task.started or now)


def _found(status: Status) -> Handler:
    """A lost one is alive after all: it stands where it says, or is being ended as was wanted."""

    def handler(task: Task, event: Event, now: datetime) -> Task:
        started = task.started or now if isinstance(event, Started | Resumed | Paused) else task.started
        where = Status.STOPPING if task.wanted in ENDING else status
        return replace(task, status=where, started=started, finished=None, exit=None)

    return handler


def _exited(task: Task, event: Event, now: datetime) -> Task:
    """Ended. Our signal to stop counts as a kill when a kill is wanted by now, and where nothing can be stopped."""
    assert isinstance(event, Exited)
    status = by_exit(event)
    if task.status is not Status.LOST:
        if task.wanted is Wanted.AGAIN and status is not Status.COMPLETED:
            return _anew(task)
        if task.spec.requeue and task.wanted not in ENDING and _gone(status, event.exit):
            return _back_to_queue(task, event, now)
    again = _again(task, _cause(status, event.exit), now)
    if again is not None:
        return again
    if status is Status.STOPPED and (task.wanted is Wanted.KILLED or task.spec.kind is not Kind.VPS):
        status = Status.KILLED
    return replace(task, status=status, finished=now, exit=event.exit)


def _start_failed(task: Task, event: Event, now: datetime) -> Task:
    fenced = isinstance(event, StartFailed) and event.reason == FENCED
    if fenced and task.spec.requeue:
        return _back_to_queue(task, event, now)
    return _again(task, LOST_NODE if fenced else FAILED, now) or _ended(task, event, now)


def _again(task: Task, cause: str | None, now: datetime) -> Task | None:
    """The task back in the queue if its policy tries again after such an end, and it has tries left."""
    retry = task.spec.retry
    if retry is None or cause not in retry.on or task.retried >= retry.most:
        return None
    if task.wanted in ENDING or task.status is Status.LOST or task.spec.kind is Kind.VPS:
        return None
    ready = now + timedelta(seconds=retry.delay) if retry.delay else None
    waits = replace(task, status=Status.PENDING, started=None, finished=None, exit=None)
    return replace(waits, retried=task.retried + 1, ready=ready)


def _cause(status: Status, end: Exit) -> str | None:
    """What a policy calls this end; None for one that is never tried again, above all where it may run still."""
    if _gone(status, end):
        return LOST_NODE
    if status is Status.FAILED and end.code is None and end.signal is None:
        return None
    return _CAUSES.get(status)


def _gone(status: Status, end: Exit) -> bool:
    """Whether it ended for its node's sake: nobody saw how, or the node had lost its host."""
    if end.reason == FENCED:
        return status in {Status.FAILED, Status.KILLED_OOM}
    return status is Status.FAILED and end.code is None and end.signal is None and end.reason in UNSEEN


def by_exit(event: Exited) -> Status:
    """The status that an end means: our signal first, then the runtime's word."""
    if event.signalled is not None:
        return event.signalled
    if event.exit.code == 0:
        return Status.COMPLETED
    return Status.KILLED_OOM if event.exit.oom else Status.FAILED


def _as_wanted(task: Task, event: Event, now: datetime) -> Task:
    if task.wanted is Wanted.AGAIN and task.status is not Status.LOST:
        return _anew(task)
    status = Status.STOPPED if task.wanted is Wanted.STOPPED else Status.KILLED
    return replace(task, status=status, finished=now, exit=Exit(reason=getattr(event, "reason", None)))


def _wish(wanted: Wanted) -> Handler:
    def handler(task: Task, _event: Event, _now: datetime) -> Task:
        return task if task.wanted is wanted else replace(task, wanted=wanted, wish=task.wish + 1)

    return handler


def _end(wanted: Wanted, status: Status) -> Handler:
    """The wish to end it: a move to `status`, and a rising wish unless it was wanted already, in this way."""

    def handler(task: Task, event: Event, now: datetime) -> Task:
        if wanted is Wanted.STOPPED and task.spec.kind is not Kind.VPS:
            raise InvalidTransition(f"task {task.id}: only a VPS can be stopped; kill it instead")
        moved = _to(status)(task, event, now) if status is not task.status else task
        grace = event.grace if isinstance(event, KillWanted) else None
        if grace is not None and grace != task.spec.grace:
            return replace(moved, wanted=wanted, wish=task.wish + 1, spec=replace(task.spec, grace=grace))
        if task.wanted is wanted or (task.wanted is Wanted.KILLED and wanted is Wanted.STOPPED):
            return moved
        return replace(moved, wanted=wanted, wish=task.wish + 1)

    return handler


def _start_again(task: Task, _event: Event, _now: datetime) -> Task:
    return replace(
        task, status=Status.PENDING, wanted=Wanted.RUN, wish=task.wish + 1, started=None, finished=None, exit=None
    )


def _lost(task: Task, event: Event, now: datetime) -> Task:
    return replace(task, status=Status.LOST, finished=now, exit=Exit(reason=getattr(event, "reason", None)))


def _ignore(task: Task, _event: Event, _now: datetime) -> Task:
    return task


def _table() -> dict[tuple[Status, type[Event]], Handler]:
    s = Status
    kill, stop = _end(Wanted.KILLED, s.STOPPING), _end(Wanted.STOPPED, s.STOPPING)
    table: dict[tuple[Status, type[Event]], Handler] = {
        (s.PENDING_APPROVAL, Approved): _to(s.PENDING),
        (s.PENDING_APPROVAL, Rejected): _rejected,
        (s.PENDING_APPROVAL, NeverSatisfied): _as_wanted,
        (s.PENDING_APPROVAL, Unobtainable): _ended,
        (s.PENDING_APPROVAL, KillWanted): _end(Wanted.KILLED, s.KILLED),
        (s.PENDING, Placed): _placed,
        (s.PENDING, NeverSatisfied): _as_wanted,
        (s.PENDING, Unobtainable): _ended,
        (s.PENDING, KillWanted): _end(Wanted.KILLED, s.KILLED),
        (s.PENDING, StopWanted): _end(Wanted.STOPPED, s.STOPPED),
        (s.ASSIGNED, Accepted): _to(s.STARTING),
        (s.ASSIGNED, RefusedForNow): _back_to_queue,
        (s.ASSIGNED, RefusedForGood): _ended,
        (s.STARTING, Started): _started,
        (s.STARTING, StartFailed): _start_failed,
        (s.STARTING, Exited): _exited,
        (s.RUNNING, Paused): _to(s.PAUSED),
        (s.RUNNING, Exited): _exited,
        (s.RUNNING, LimitReached): _to(s.STOPPING),
        (s.PAUSED, Resumed): _to(s.RUNNING),
        (s.PAUSED, Exited): _exited,
        (s.PAUSED, LimitReached): _to(s.STOPPING),
        (s.STOPPING, Exited): _exited,
        (s.STOPPING, RefusedForNow): _as_wanted,
        (s.STOPPING, RefusedForGood): _as_wanted,
        (s.STOPPING, StartFailed): _as_wanted,
        (s.STOPPING, NeverStarted): _as_wanted,
        (s.STOPPING, Started): _started_while_stopping,
        (s.STOPPED, StartWanted): _start_again,
        (s.STOPPED, Deleted): _to(s.REMOVED),
    }
    for status in (s.ASSIGNED, s.STARTING, s.RUNNING, s.PAUSED, s.STOPPING):
        table[status, KillWanted] = kill
        table[status, StopWanted] = stop
        table[status, DeclaredLost] = _lost
        table[status, Requeued] = _requeued
    for status in (s.ASSIGNED, s.STARTING, s.RUNNING, s.PAUSED):
        table[status, RequeueWanted] = _end(Wanted.AGAIN, s.STOPPING)
    for status in (s.PENDING_APPROVAL, s.PENDING, s.ASSIGNED, s.STARTING, s.RUNNING, s.PAUSED):
        table[status, PauseWanted] = _wish(Wanted.PAUSED)
        table[status, ResumeWanted] = _wish(Wanted.RUN)
    for reported in (Accepted, Paused, Resumed, LimitReached):
        table[s.STOPPING, reported] = _ignore
    table[s.LOST, Accepted] = _found(s.STARTING)
    table[s.LOST, Started] = _found(s.RUNNING)
    table[s.LOST, Paused] = _found(s.PAUSED)
    table[s.LOST, Resumed] = _found(s.RUNNING)
    table[s.LOST, LimitReached] = _found(s.STOPPING)
    table[s.LOST, RefusedForNow] = _back_to_queue
    table[s.LOST, RefusedForGood] = _ended
    table[s.LOST, StartFailed] = _ended
    table[s.LOST, NeverStarted] = _as_wanted
    table[s.LOST, Exited] = _exited
    return table


#: (where it stands, what happened) -> what becomes of it
TRANSITIONS = _table()

assert all(status not in FINAL or status is Status.LOST for status, _ in TRANSITIONS)
assert all((status, DeclaredLost) in TRANSITIONS for status in HOLDING)
