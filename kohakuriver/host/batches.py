"""What people want of all tasks of one submission at once. Each task is still changed by itself."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from kohakuriver.domain.access import Action, Actor
from kohakuriver.domain.events import Event, KillWanted, PauseWanted, ResumeWanted
from kohakuriver.domain.tasks import Task
from kohakuriver.errors import InvalidTransition
from kohakuriver.host.cause import Cause, by
from kohakuriver.host.host import Host
from kohakuriver.host.tasks import find_batch
from kohakuriver.store.tasks import batch_statuses
from kohakuriver.wire.many import BatchView

#: changes that wait for the store at the same time
AT_ONCE = 256


async def show_batch(host: Host, actor: Actor, ref: str) -> BatchView:
    """How many tasks of the batch stand where."""
    return await _view(host, await find_batch(host, actor, ref, Action.TASK_LIST), 0)


async def kill_batch(host: Host, actor: Actor, ref: str, grace: int | None = None) -> BatchView:
    """Ends what has not ended. May be called again."""
    return await _change(host, actor, ref, KillWanted(grace=grace))


async def pause_batch(host: Host, actor: Actor, ref: str) -> BatchView:
    """Freezes what runs and holds back what waits."""
    return await _change(host, actor, ref, PauseWanted())


async def resume_batch(host: Host, actor: Actor, ref: str) -> BatchView:
    """Lets the paused ones go on."""
    return await _change(host, actor, ref, ResumeWanted())


async def _change(host: Host, actor: Actor, ref: str, event: Event) -> BatchView:
    """Records the event for every task that has not ended; those that cannot take it now are left out.

    What waits is changed before what runs, so that a place that comes free is not taken by what is to end as well.
    """
    some = await find_batch(host, actor, ref, Action.TASK_CONTROL)
    tasks = sorted((task for task in host.board.all() if task.batch == some.batch), key=lambda task: task.generation)
    waiting = [task for task in tasks if not task.generation]
    begun = tasks[len(waiting) :]
    changed = 0
    for part in (waiting, begun):
        for at in range(0, len(part), AT_ONCE):
            changed += await _record(host, part[at : at + AT_ONCE], event, by(actor))
    return await _view(host, some, changed)


async def _record(host: Host, tasks: Sequence[Task], event: Event, cause: Cause) -> int:
    async def one(task: Task) -> bool:
        try:
            await host.ledger.record(task.id, event, cause)
        except InvalidTransition:
            return False
        return True

    return sum(await asyncio.gather(*(one(task) for task in tasks)))


async def _view(host: Host, some: Task, changed: int) -> BatchView:
    statuses = Counter(status.value for _, status in await batch_statuses(host.store.reader, some.batch))
    return BatchView(
        batch=str(some.batch),
        owner=host.owners.name(some.owner),
        tasks=sum(statuses.values()),
        statuses=dict(statuses),
        changed=changed,
    )
