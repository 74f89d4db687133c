"""Submit: everything that was asked for is checked, stored in one transaction, and only then answered."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kohakuriver.domain.access import Action, Actor, Role, authorize
from kohakuriver.domain.dependencies import Key
from kohakuriver.domain.ids import check_name
from kohakuriver.domain.tasks import OPEN, Status, Task, TaskSpec, name_of
from kohakuriver.errors import Conflict, KohakuRiverError, QuotaExceeded, StorageFull
from kohakuriver.host import records
from kohakuriver.host.cause import by
from kohakuriver.host.dependencies import Watched
from kohakuriver.host.environments.base import ensure_base, hold_version
from kohakuriver.host.host import Host
from kohakuriver.host.many import after_of, states_of
from kohakuriver.host.means import check_options
from kohakuriver.host.once import check_key
from kohakuriver.host.specs import specs_of
from kohakuriver.store.columns import micros
from kohakuriver.store.models import IdempotencyRow, TaskRow, UserRow
from kohakuriver.store.tasks import find_answer, task_row
from kohakuriver.store.write import (
    AtMost,
    ConstraintFailed,
    Statement,
    WrongCount,
    insert,
    insert_if,
    insert_many,
    lock,
)
from kohakuriver.wire import api, codec

LONGEST_NAME = 128


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A submission that may be stored."""

    #: one for each task
    specs: Sequence[TaskSpec]
    name: str | None
    #: where its tasks begin
    status: Status
    #: how that stands which they are to start after
    states: Mapping[Key, Watched]
    #: it has options that only operators may give
    privileged: bool


async def submit_tasks(
    host: Host, actor: Actor, request: api.SubmitTask, *, key: str | None = None, body: bytes = b""
) -> api.Submitted:
    """Stores one task per target and copy, all or none, and answers after the commit.

    The same `key` with the same body gets the same answer and stores nothing; with another body it is a Conflict.
    Raises NotAllowed, Invalid, NotFound (target), NeverFits, QuotaExceeded, StorageFull.
    """
    authorize(actor, Action.TASK_SUBMIT)
    digest = hashlib.sha256(body).hexdigest()
    answer = await _answered(host, actor, key, digest)
    if answer is not None:
        return answer
    checked = await check_submission(host, actor, request)
    if await ensure_base(host, checked.specs[0].container):
        checked = await check_submission(host, actor, request)
    container = checked.specs[0].container
    now = host.clock.now()
    tasks = _tasks(host, actor, checked, now)
    submitted = api.Submitted(batch=str(tasks[0].batch), tasks=[str(task.id) for task in tasks])
    # the key first, so that a second request with it fails by it and not by the limit
    answered = [] if key is None else [_answer(actor, key, digest, submitted, now)]
    statements = [
        *answered,
        *_rows(host, actor, tasks),
        *_history(host, actor, tasks, now, privileged=checked.privileged),
    ]

    def then() -> None:
        for task in tasks:
            host.board.put(task)
            host.changes.publish("task", task.id, task.status)
        host.environments.catalog.let_go(container)
        host.scheduler.wake()

    def otherwise() -> None:
        host.dependencies.drop(tasks)
        host.environments.waiting.drop(tasks)
        host.environments.catalog.let_go(container)

    # nothing is waited for since the look at what they start after
    hold_version(host, container)
    host.environments.waiting.expect(tasks)
    host.dependencies.expect(tasks, checked.states)
    try:
        await host.commits.write(statements, then, otherwise)
    except KohakuRiverError as error:
        return await _not_stored(host, actor, error, key=key, digest=digest, count=len(tasks))
    return submitted


async def _not_stored(
    host: Host, actor: Actor, error: KohakuRiverError, *, key: str | None, digest: str, count: int
) -> api.Submitted:
    """What it means that the store did not take it: an error, or the answer of a twin that was faster."""
    if isinstance(error, WrongCount):
        limit = _limit(host, actor)
        raise QuotaExceeded(
            f"you have {host.board.open_of(actor.id)} open tasks and asked for {count} more; at most {limit}",
            field="copies" if count > 1 else None,
            value=count,
            limit=limit,
        ) from None
    answer = await _answered(host, actor, key, digest) if isinstance(error, ConstraintFailed) else None
    if answer is None:
        raise error
    return answer


async def _answered(host: Host, actor: Actor, key: str | None, digest: str) -> api.Submitted | None:
    if key is None:
        return None
    found = await find_answer(host.store.reader, actor.id, check_key(key))
    if found is None:
        return None
    body_hash, response = found
    if body_hash != digest:
        raise Conflict("this Idempotency-Key was used with another body", field="Idempotency-Key", value=key)
    answer: api.Submitted = codec.decode(response, api.Submitted)
    return answer


async def check_submission(host: Host, actor: Actor, request: api.SubmitTask) -> Checked:
    """What the request means, as far as that can be told before the commit.

    Raises NotAllowed, Invalid, NotFound, NeverFits, TooLarge, Conflict (what it is to start after has failed) and
    StorageFull. Nothing is waited for after the look at `states`.
    """
    needs = await after_of(host, actor, request)
    specs = specs_of(host, request, needs)
    privileged = check_options(host, actor, specs[0].backend, specs[0].options)
    name = None if request.name is None else check_name(request.name, "name", LONGEST_NAME)
    states = await states_of(host, needs)
    _check_disk(host)
    waits = host.settings.approve_users and actor.role is Role.USER
    return Checked(
        specs=specs,
        name=name,
        status=Status.PENDING_APPROVAL if waits else Status.PENDING,
        states=states,
        privileged=privileged,
    )


def _check_disk(host: Host) -> None:
    """Raises StorageFull while the host keeps what it has left for reports."""
    floor = host.settings.disk_floor
    try:
        free = shutil.disk_usage(host.settings.data_dir).free
    except OSError:
        # the commit will say what is wrong with the disk
        return
    if free < floor:
        raise StorageFull(f"the host has {free} bytes free and keeps {floor}; nothing was stored", limit=floor)


def _tasks(host: Host, actor: Actor, checked: Checked, now: datetime) -> list[Task]:
    ids = [host.ids.next() for _ in checked.specs]
    return [
        Task(
            id=id,
            batch=ids[0],
            owner=actor.id,
            spec=spec,
            name=name_of(checked.name, spec),
            status=checked.status,
            submitted=now,
        )
        for id, spec in zip(ids, checked.specs, strict=True)
    ]


def _limit(host: Host, actor: Actor) -> int:
    return host.owners.most_open(actor.id, host.settings.most_open)


def _rows(host: Host, actor: Actor, tasks: Sequence[Task]) -> list[Statement]:
    """The rows of the tasks, stored only while the owner stays within the limit of open tasks."""
    limit = _limit(host, actor)
    rows = [task_row(task) for task in tasks]
    if not limit:
        return [insert_many(TaskRow, rows)]
    condition = AtMost(
        model=TaskRow,
        where={"owner_id": actor.id, "status__in": sorted(status.value for status in OPEN)},
        adding=len(tasks),
        limit=limit,
    )
    rest = [insert_many(TaskRow, rows[1:])] if len(rows) > 1 else []
    return [lock(UserRow, id=actor.id), insert_if(TaskRow, rows[0], condition), *rest]


def _history(host: Host, actor: Actor, tasks: Sequence[Task], now: datetime, *, privileged: bool) -> list[Statement]:
    detail = {"tasks": len(tasks)} | ({"privileged": True} if privileged else {})
    row = records.event(host.ids.next(), now, "submitted", by(actor), task=tasks[0].id, user=actor.id, detail=detail)
    return records.events([row])


def _answer(actor: Actor, key: str, digest: str, submitted: api.Submitted, now: datetime) -> Statement:
    return insert(
        IdempotencyRow,
        id=f"{actor.id}:{key}",
        owner_id=actor.id,
        key=key,
        body_hash=digest,
        response=codec.encode(submitted).decode(),
        created=micros(now),
    )
