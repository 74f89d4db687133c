"""Tasks as the API shows them, to whom it may show them."""

from kohakuriver.domain.access import Actor, visible
from kohakuriver.domain.arrays import Element
from kohakuriver.domain.plans import Plan
from kohakuriver.domain.targets import format_target
from kohakuriver.domain.tasks import HOLDING, Exit, Status, Task
from kohakuriver.host.owners import Owners
from kohakuriver.host.roster import Roster
from kohakuriver.wire.api import ExitView, ReasonView, TaskView
from kohakuriver.wire.many import AfterView, ArrayView, RetryView

WAITING = frozenset({Status.PENDING, Status.PENDING_APPROVAL})


def task_view(
    actor: Actor, task: Task, *, owners: Owners, roster: Roster, now: float, plan: Plan | None, preparing: str = ""
) -> TaskView:
    """The task. Without the right to its details, the fields from `command` on are null.

    `plan` gives the reason of a waiting task, `preparing` is how far one is that is about to start; `now` is monotonic.
    """
    spec, seen = task.spec, visible(actor, task.owner)
    view = TaskView(
        id=str(task.id),
        batch=str(task.batch),
        kind=spec.kind.value,
        name=task.name,
        owner=owners.name(task.owner),
        status=task.status.value,
        wanted=task.wanted.value,
        unreachable=task.status in HOLDING and roster.unreachable(task.node, now),
        node=roster.name_of(task.node),
        attempt=task.generation,
        cores=spec.request.cores,
        pin=spec.request.pin,
        memory=spec.request.memory,
        devices=len(spec.target.devices) if spec.target and spec.target.devices else spec.request.devices.count,
        priority=spec.priority,
        submitted=task.submitted,
        started=task.started,
        finished=task.finished,
        exit=exit_view(task.exit, reason=seen),
        reason=reason_view(task, plan),
        array=array_view(spec.array),
        retry=retry_view(task),
        ready=task.ready,
        requeue=spec.requeue,
        lease=spec.lease,
        after=[AfterView(id=str(one.id), batch=one.batch, always=one.always) for one in spec.after],
    )
    if not seen:
        return view
    if preparing:
        view.reason = ReasonView(code="starting", text=preparing)
    view.command = list(spec.argv)
    view.script = spec.script
    view.env = dict(spec.env)
    view.secrets = sorted(spec.secrets)
    view.workdir = spec.workdir
    view.target = format_target(spec.target) if spec.target else None
    view.constraints = [str(constraint) for constraint in spec.constraints]
    view.backend = spec.backend
    view.container = spec.container
    view.image = spec.image
    view.pull = spec.pull if spec.image is not None else None
    view.options = dict(spec.options)
    view.time_limit = spec.time_limit
    view.grace = spec.grace
    return view


def array_view(element: Element | None) -> ArrayView | None:
    """The place in the array; None for a task that is in none."""
    if element is None:
        return None
    return ArrayView(
        index=element.index,
        least=element.least,
        greatest=element.greatest,
        count=element.count,
        most=element.most,
    )


def retry_view(task: Task) -> RetryView | None:
    """How it is tried again; None for a task that is not."""
    retry = task.spec.retry
    if retry is None:
        return None
    return RetryView(most=retry.most, on=list(retry.on), delay=retry.delay, retried=task.retried)


def exit_view(end: Exit | None, *, reason: bool) -> ExitView | None:
    """How it ended. The reason in words may quote the command, so it is for those who may see that."""
    if end is None:
        return None
    return ExitView(code=end.code, signal=end.signal, oom=end.oom, reason=end.reason if reason else None)


def reason_view(task: Task, plan: Plan | None) -> ReasonView | None:
    """Why the task waits, in numbers; None when it does not."""
    if plan is None or task.status not in WAITING:
        return None
    reason = plan.reasons.get(task.id)
    if reason is None:
        return ReasonView(code="next", text="is about to be placed")
    return ReasonView(code=reason.code, text=reason.text, ahead=plan.ahead.get(task.id))
