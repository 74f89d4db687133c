"""What people want of a task that exists: each is a wish that is stored, and made true by dispatch."""

from kohakuriver.domain.access import Action, Actor
from kohakuriver.domain.events import (
    Approved,
    DeclaredLost,
    Event,
    KillWanted,
    PauseWanted,
    Rejected,
    RequeueWanted,
    ResumeWanted,
)
from kohakuriver.domain.tasks import Task
from kohakuriver.host.cause import by
from kohakuriver.host.host import Host
from kohakuriver.host.tasks import find_allowed, view
from kohakuriver.wire.api import TaskView


async def kill(host: Host, actor: Actor, ref: str, grace: int | None = None) -> TaskView:
    """Ends the task. A second call while it ends changes at most the grace; one that has ended is a Conflict."""
    task = await _mine(host, actor, ref, Action.TASK_CONTROL)
    return await _record(host, actor, task, KillWanted(grace=grace))


async def pause(host: Host, actor: Actor, ref: str) -> TaskView:
    """Freezes the task, or holds it back while it has not started."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_CONTROL), PauseWanted())


async def resume(host: Host, actor: Actor, ref: str) -> TaskView:
    """Lets a paused task go on, or start."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_CONTROL), ResumeWanted())


async def approve(host: Host, actor: Actor, ref: str) -> TaskView:
    """Lets a task into the queue."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_APPROVE), Approved())


async def reject(host: Host, actor: Actor, ref: str, reason: str) -> TaskView:
    """Refuses a task for good."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_APPROVE), Rejected(reason=reason))


async def declare_lost(host: Host, actor: Actor, ref: str, reason: str) -> TaskView:
    """Gives up a task whose node is gone, and frees what it held. A later true report still corrects it."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_LOSE), DeclaredLost(reason=reason))


async def requeue(host: Host, actor: Actor, ref: str) -> TaskView:
    """Ends the present attempt and begins another. On a silent node that waits for its lease, or for its return."""
    return await _record(host, actor, await _mine(host, actor, ref, Action.TASK_CONTROL), RequeueWanted())


async def _mine(host: Host, actor: Actor, ref: str, action: Action) -> Task:
    return (await find_allowed(host, actor, ref, action))[0]


async def _record(host: Host, actor: Actor, task: Task, event: Event) -> TaskView:
    return view(host, actor, await host.ledger.record(task.id, event, by(actor)))
