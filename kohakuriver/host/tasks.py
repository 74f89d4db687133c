"""Questions about tasks: one, many, why, since when, until the end. Changes nothing."""

from collections import Counter
from typing import Any

from kohakuriver import __version__
from kohakuriver.domain.access import Action, Actor, Owned, Role, Ruling, authorize, visible
from kohakuriver.domain.ids import parse_id
from kohakuriver.domain.plans import Plan
from kohakuriver.domain.tasks import Status, Task
from kohakuriver.errors import Invalid, NotFound
from kohakuriver.host.cause import ORIGIN
from kohakuriver.host.host import Host
from kohakuriver.host.views import WAITING, exit_view, task_view
from kohakuriver.host.waiting import ended
from kohakuriver.store.events import list_events as stored_events
from kohakuriver.store.lists import list_rows
from kohakuriver.store.tasks import attempts_of, count_by_status, find_tasks, task_of_array
from kohakuriver.wire.api import (
    AttemptView,
    EventView,
    Page,
    StatusView,
    TaskView,
)

LONGEST_WAIT = 60.0
MOST_LISTED = 1000


async def find_task(host: Host, actor: Actor, ref: str) -> Task:
    """The task that the text means: an id, a unique suffix of at least four digits, or a name (the newest of one's own
    first). Raises NotFound, or Invalid when a suffix means several.
    """
    authorize(actor, Action.TASK_LIST)
    if ref.isascii() and ref.isdigit() and len(ref) <= 19:
        found = host.board.get(int(ref))
        if found is not None:
            return found
    matches = await find_tasks(host.store.reader, ref, owner=actor.id)
    if not matches:
        raise _missing(ref)
    if len(matches) > 1:
        ids = ", ".join(str(task.id) for task in matches[:3])
        raise Invalid(f"{ref} is the end of several ids: {ids}; give more digits", field="task", value=ref)
    return host.board.get(matches[0].id) or matches[0]


async def find_allowed(host: Host, actor: Actor, ref: str, action: Action) -> tuple[Task, Ruling]:
    """The task and how the action on it is to be carried out. Raises NotFound, for a task of others that the actor may
    not touch in the same words as for one that does not exist.
    """
    task = await find_task(host, actor, ref)
    try:
        return task, authorize(actor, action, Owned(owner=task.owner))
    except NotFound:
        raise _missing(ref) from None


async def find_batch(host: Host, actor: Actor, ref: str, action: Action) -> Task:
    """Some task of the batch that the text means: a task of it by id, end of an id or name, or the name of an array.

    Raises NotFound as `find_allowed` does.
    """
    try:
        return (await find_allowed(host, actor, ref, action))[0]
    except NotFound:
        found = await task_of_array(host.store.reader, ref, owner=actor.id)
        if found is None:
            raise
    try:
        authorize(actor, action, Owned(owner=found.owner))
    except NotFound:
        raise _missing(ref) from None
    return found


def _missing(ref: str) -> NotFound:
    return NotFound(f"there is no task {ref!r}; `kohakuriver task list` shows them", field="task", value=ref)


def view(host: Host, actor: Actor, task: Task, plan: Plan | None = None) -> TaskView:
    """The task as this actor may see it."""
    if plan is None and task.status in WAITING:
        plan = host.scheduler.full()
    now, preparing = host.clock.monotonic(), host.preparing.told(task)
    return task_view(actor, task, owners=host.owners, roster=host.roster, now=now, plan=plan, preparing=preparing)


async def show_task(host: Host, actor: Actor, ref: str) -> TaskView:
    """One task."""
    return view(host, actor, await find_task(host, actor, ref))


async def list_tasks(
    host: Host,
    actor: Actor,
    *,
    status: set[str] | None = None,
    owner: str | None = None,
    node: str | None = None,
    name: str | None = None,
    batch: str | None = None,
    sort: str = "-id",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[TaskView]:
    """A page of tasks, newest first unless sorted otherwise. An owner or node that does not exist has none."""
    authorize(actor, Action.TASK_LIST)
    unknown = (status or set()) - {one.value for one in Status}
    if unknown:
        known = ", ".join(one.value for one in Status)
        raise Invalid("that is no status", field="status", value=min(unknown), limit=known)
    owner_id = _owner(host, actor, owner)
    node_id = host.roster.find(node).id if node else None
    if owner_id == 0:
        return Page(items=[])
    tasks, following = await list_rows(
        host.store.reader,
        statuses=sorted(status) if status else None,
        owner=owner_id,
        node=node_id,
        name=name,
        batch=await _batch(host, actor, batch),
        sort=sort,
        cursor=cursor,
        limit=min(limit, MOST_LISTED),
    )
    plan = host.scheduler.full() if any(task.status in WAITING for task in tasks) else None
    return Page(items=[view(host, actor, task, plan) for task in tasks], next=following)


def _owner(host: Host, actor: Actor, owner: str | None) -> int | None:
    if owner is None:
        return None
    if owner == "me":
        return actor.id
    return host.owners.find(owner) or 0


async def _batch(host: Host, actor: Actor, ref: str | None) -> int | None:
    """A batch that does not exist has no tasks; a whole number that long is the batch's own."""
    if ref is None:
        return None
    try:
        return (await find_batch(host, actor, ref, Action.TASK_LIST)).batch
    except NotFound:
        return parse_id(ref, field="batch") if ref.isdecimal() else 0


async def history(host: Host, actor: Actor, ref: str) -> Page[EventView]:
    """Everything that happened to the task and who or what caused it, oldest first."""
    task = await find_task(host, actor, ref)
    rows, _ = await stored_events(host.store.reader, task=task.id, limit=MOST_LISTED)
    items = [EventView(**_told_to(actor, task, row)) for row in rows]
    if not items or items[0].what != "submitted":
        items.insert(0, _submitted(host, task))
    return Page(items=items)


def _told_to(actor: Actor, task: Task, row: dict[str, Any]) -> dict[str, Any]:
    """Where somebody came from is for operators; a reason in words may quote the command, so it is told with it."""
    hidden = set[str]() if actor.role >= Role.OPERATOR else set(ORIGIN)
    if not visible(actor, task.owner):
        hidden.add("reason")
    return row | {"detail": {key: value for key, value in row["detail"].items() if key not in hidden}}


def _submitted(host: Host, task: Task) -> EventView:
    """One record stands for a whole submission; the others are told from the row."""
    return EventView(
        id=str(task.id),
        at=task.submitted,
        what="submitted",
        actor=host.owners.name(task.owner),
        task=str(task.id),
        node=None,
        user=str(task.owner),
        detail={"batch": str(task.batch)},
    )


async def attempts(host: Host, actor: Actor, ref: str) -> Page[AttemptView]:
    """Its runs, oldest first, with what they used."""
    task = await find_task(host, actor, ref)
    found, seen = await attempts_of(host.store.reader, task.id), visible(actor, task.owner)
    return Page(
        items=[
            AttemptView(
                attempt=one.generation,
                node=host.roster.name_of(one.node) or str(one.node),
                placed=one.placed,
                accepted=one.accepted,
                started=one.started,
                finished=one.finished,
                exit=exit_view(one.exit, reason=seen),
                cpu_seconds=one.cpu_seconds,
                memory_peak=one.memory_peak,
                running_seconds=one.running_seconds,
                stdout_bytes=one.sizes.get("stdout"),
                stderr_bytes=one.sizes.get("stderr"),
            )
            for one in found
        ]
    )


async def wait_task(host: Host, actor: Actor, ref: str, timeout: float) -> TaskView:  # noqa: ASYNC109
    """The task when it has ended, or after `timeout` seconds (60 at most) as it stands then."""
    # looked at once more: nothing is awaited between an open task and the waiting for its end
    task = await host.ledger.find((await find_task(host, actor, ref)).id)
    if not ended(task):
        await host.ends.wait(task.id, min(timeout, LONGEST_WAIT))
        task = await host.ledger.find(task.id)
    return view(host, actor, task)


async def list_events(
    host: Host,
    actor: Actor,
    *,
    cursor: str | None = None,
    limit: int = 100,
    task: str | None = None,
    node: str | None = None,
) -> Page[EventView]:
    """The history of the cluster, newest first, for operators."""
    authorize(actor, Action.AUDIT_READ)
    task_id = (await find_task(host, actor, task)).id if task else None
    node_id = host.roster.find(node).id if node else None
    rows, following = await stored_events(
        host.store.reader, task=task_id, node=node_id, cursor=cursor, limit=min(limit, MOST_LISTED), newest=True
    )
    return Page(items=[EventView(**row) for row in rows], next=following)


async def cluster_status(host: Host, actor: Actor) -> StatusView:
    """The cluster in a few numbers."""
    authorize(actor, Action.TASK_LIST)
    now = host.clock.monotonic()
    members = host.roster.live()
    reserved = [held for member in members for held in host.board.reserved(member.id).values()]
    counts = await count_by_status(host.store.reader)
    return StatusView(
        cluster=host.store.cluster,
        version=__version__,
        nodes=dict(Counter(member.status(now).value for member in members)),
        tasks=counts,
        cores=sum(len(member.inventory.cpus) for member in members),
        cores_reserved=sum(held.cpu_milli for held in reserved) / 1000,
        memory=sum(member.inventory.memory for member in members),
        memory_reserved=sum(held.memory for held in reserved),
        gpus=sum(len(member.inventory.devices) for member in members),
        gpus_reserved=sum(len(held.devices) for held in reserved),
        user=actor.name,
    )
