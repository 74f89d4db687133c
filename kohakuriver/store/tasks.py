"""Tasks, attempts and reservations: domain values out of rows, and the statements that change a task's row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from kohakuriver.domain.ids import HIGHEST_ID, SHORTEST_SUFFIX
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import FINAL, Exit, Kind, Status, Task, TaskSpec, Wanted
from kohakuriver.store.columns import micros, micros_or_none, moment, moment_or_none
from kohakuriver.store.models import AttemptRow, IdempotencyRow, OutputRow, ReservationRow, TaskRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import Statement, update

OPEN_STATUSES = sorted(status.value for status in Status if status not in FINAL)
MOST_MATCHES = 20


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a task, as recorded. `sizes` are the bytes of its archived streams."""

    generation: int
    node: int
    placed: datetime
    accepted: datetime | None
    started: datetime | None
    finished: datetime | None
    exit: Exit | None
    cpu_seconds: float | None
    memory_peak: int | None
    running_seconds: float | None
    sizes: Mapping[str, int] = field(default_factory=dict)


def task_row(task: Task) -> dict[str, object]:
    """Every column of a new task."""
    request = task.spec.request
    devices = task.spec.target.devices if task.spec.target else ()
    return {
        "id": task.id,
        "batch": task.batch,
        "owner_id": task.owner,
        "kind": task.spec.kind.value,
        "name": task.name,
        "spec": _spec_encoder().encode(task.spec).decode(),
        "cores": request.cores,
        "memory": request.memory,
        "devices": len(devices) or request.devices.count,
        "priority": task.spec.priority,
        "submitted": micros(task.submitted),
        **_changing(task),
    }


def task_statements_change(before: Task, after: Task) -> list[Statement]:
    """The columns that differ, written only if the row is still the one of `before`."""
    old, new = _changing(before), _changing(after)
    changed = {name: value for name, value in new.items() if value != old[name]}
    if after.spec is not before.spec:  # the grace that a kill asked for
        changed["spec"] = _spec_encoder().encode(after.spec).decode()
    return [update(TaskRow, where={"id": before.id, "version": before.version}, set=changed, expect=1)]


def _changing(task: Task) -> dict[str, object]:
    end = task.exit or Exit()
    return {
        "status": task.status.value,
        "wanted": task.wanted.value,
        "wish": task.wish,
        "version": task.version,
        "node_id": task.node,
        "generation": task.generation,
        "started": micros_or_none(task.started),
        "finished": micros_or_none(task.finished),
        "ready": micros_or_none(task.ready),
        "retried": task.retried,
        "exit_code": end.code,
        "exit_signal": end.signal,
        "exit_oom": end.oom,
        "exit_reason": end.reason,
    }


def task_of(row: Mapping[str, Any]) -> Task:
    """The task that a row with all columns means."""
    return Task(
        id=row["id"],
        batch=row["batch"],
        owner=row["owner_id"],
        spec=_spec_decoder().decode(row["spec"]),
        name=row["name"],
        status=Status(row["status"]),
        wanted=Wanted(row["wanted"]),
        wish=row["wish"],
        version=row["version"],
        node=row["node_id"],
        generation=row["generation"],
        submitted=moment(row["submitted"]),
        started=moment_or_none(row["started"]),
        finished=moment_or_none(row["finished"]),
        ready=moment_or_none(row["ready"]),
        retried=row["retried"],
        exit=exit_of(row, ended=row["finished"] is not None),
    )


def exit_of(row: Mapping[str, Any], *, ended: bool) -> Exit | None:
    """How it ended; None while it has not."""
    if not ended:
        return None
    oom = row["exit_oom"]
    return Exit(
        code=row["exit_code"],
        signal=row["exit_signal"],
        oom=None if oom is None else bool(oom),
        reason=row["exit_reason"],
    )


async def load_task(reader: Reader, task: int) -> Task | None:
    """The task of that id."""
    rows = await reader.of(TaskRow).filter(id=task).values() if 0 < task <= HIGHEST_ID else []
    return task_of(rows[0]) if rows else None


async def open_tasks(reader: Reader) -> list[Task]:
    """Every task that is not final, by id."""
    rows = await reader.of(TaskRow).filter(status__in=OPEN_STATUSES).order_by("id").values()
    return [task_of(row) for row in rows]


async def lost_tasks(reader: Reader, tasks: Sequence[int], *, node: int) -> list[Task]:
    """Those of the tasks that were given up on this node."""
    wanted = [task for task in tasks if task <= HIGHEST_ID]
    rows = await reader.of(TaskRow).filter(id__in=wanted, status=Status.LOST.value, node_id=node).values()
    return [task_of(row) for row in rows]


async def of_another_life(reader: Reader, attempts: Sequence[str], *, epoch: int) -> list[str]:
    """Those of the attempts that were placed in another life of their node's journal than this one."""
    rows = await reader.of(AttemptRow).filter(id__in=list(attempts)).exclude(epoch=epoch).values("id")
    return [row["id"] for row in rows]


async def find_tasks(reader: Reader, text: str, *, owner: int) -> list[Task]:
    """Tasks that a text may mean: by full id; by the end of the id (four digits or more), newest first; or the newest
    of that name, the owner's own before all others.
    """
    digits = text.isascii() and text.isdigit()
    if digits and len(text) <= 19:
        exact = await load_task(reader, int(text))
        if exact is not None:
            return [exact]
    if digits and len(text) < SHORTEST_SUFFIX:
        return []
    if digits:
        sql = 'SELECT * FROM "tasks" WHERE "id" % ? = ? ORDER BY "id" DESC LIMIT ?'
        rows = await reader.rows(sql, [10 ** len(text), int(text), MOST_MATCHES]) if len(text) < 19 else []
    else:
        rows = await _newest(reader, '"name" = ?', [text], owner)
    return [task_of(row) for row in rows]


async def statuses_of(reader: Reader, tasks: Sequence[int]) -> dict[int, Status]:
    """Where the tasks stand."""
    found: dict[int, Status] = {}
    for at in range(0, len(tasks), 500):
        rows = await reader.of(TaskRow).filter(id__in=list(tasks[at : at + 500])).values_list("id", "status")
        found |= {task: Status(status) for task, status in rows}
    return found


async def generations_of(reader: Reader, tasks: Sequence[int]) -> dict[int, int]:
    """The newest attempt's number of each of these tasks."""
    known = [task for task in tasks if task <= HIGHEST_ID]
    return dict(await reader.of(TaskRow).filter(id__in=known).values_list("id", "generation"))


async def task_of_array(reader: Reader, name: str, *, owner: int) -> Task | None:
    """The newest task of an array of that name, of the owner's own if there is one. No other name has a bracket."""
    start = f"{name}["
    # LIKE would take either case on SQLite
    rows = await _newest(reader, 'SUBSTR("name", 1, ?) = ?', [len(start), start], owner)
    return task_of(rows[0]) if rows else None


async def _newest(reader: Reader, condition: str, values: list[Any], owner: int) -> list[dict[str, Any]]:
    """The newest row of which that is true, of the owner's own or else of anybody's."""
    if any("\0" in str(value) for value in values):
        # no text of PostgreSQL has one, and it fails for being asked
        return []
    sql = f'SELECT * FROM "tasks" WHERE {condition}'  # noqa: S608
    own = await reader.rows(f'{sql} AND "owner_id" = ? ORDER BY "id" DESC LIMIT 1', [*values, owner])
    return own or await reader.rows(f'{sql} ORDER BY "id" DESC LIMIT 1', values)


async def batch_statuses(reader: Reader, batch: int) -> list[tuple[int, Status]]:
    """Every task of the batch with where it stands, by id."""
    rows = await reader.of(TaskRow).filter(batch=batch).order_by("id").values_list("id", "status")
    return [(task, Status(status)) for task, status in rows]


async def count_by_status(reader: Reader) -> dict[str, int]:
    """How many tasks there are of each status."""
    rows = await reader.rows('SELECT "status", COUNT(*) AS "count" FROM "tasks" GROUP BY "status"', [])
    return {row["status"]: row["count"] for row in rows}


async def count_by_kind(reader: Reader) -> dict[tuple[str, str], int]:
    """How many tasks there are of each status and kind. All but the commonest kind are few and found by their index."""
    counts = {(status, Kind.COMMAND.value): count for status, count in (await count_by_status(reader)).items()}
    others = [kind.value for kind in Kind if kind is not Kind.COMMAND]
    for status, kind in await reader.of(TaskRow).filter(kind__in=others).values_list("status", "kind"):
        counts[status, Kind.COMMAND.value] = max(0, counts.get((status, Kind.COMMAND.value), 0) - 1)
        counts[status, kind] = counts.get((status, kind), 0) + 1
    return {key: count for key, count in counts.items() if count}


async def highest_id(reader: Reader) -> int:
    """The largest id given out so far, of tasks and of events."""
    rows = await reader.rows(
        'SELECT MAX("id") AS "id" FROM "tasks" UNION ALL SELECT MAX("id") FROM "events" '
        'UNION ALL SELECT MAX("id") FROM "users" UNION ALL SELECT MAX("id") FROM "nodes"',
        [],
    )
    return max((row["id"] or 0 for row in rows), default=0)


async def attempts_of(reader: Reader, task: int) -> list[Attempt]:
    """The attempts of a task, oldest first."""
    rows = await reader.of(AttemptRow).filter(task_id=task).order_by("generation").values()
    outputs = (
        await reader.of(OutputRow)
        .filter(attempt_id__in=[row["id"] for row in rows])
        .values("attempt_id", "stream", "size")
    )
    sizes: dict[str, dict[str, int]] = {}
    for output in outputs:
        sizes.setdefault(output["attempt_id"], {})[output["stream"]] = output["size"]
    return [_attempt(row, sizes.get(row["id"], {})) for row in rows]


def _attempt(row: Mapping[str, Any], sizes: Mapping[str, int]) -> Attempt:
    return Attempt(
        generation=row["generation"],
        node=row["node_id"],
        placed=moment(row["placed"]),
        accepted=moment_or_none(row["accepted"]),
        started=moment_or_none(row["started"]),
        finished=moment_or_none(row["finished"]),
        exit=exit_of(row, ended=row["finished"] is not None),
        cpu_seconds=row["cpu_seconds"],
        memory_peak=row["memory_peak"],
        running_seconds=row["running_seconds"],
        sizes=sizes,
    )


async def reservations(reader: Reader) -> dict[tuple[int, int], Reserved]:
    """Everything that is held, by task and generation."""
    parts: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in await reader.of(ReservationRow).all().values():
        parts.setdefault((row["task_id"], row["generation"]), []).append(row)
    return {key: _reserved(key, rows) for key, rows in parts.items()}


def _reserved(key: tuple[int, int], rows: Sequence[Mapping[str, Any]]) -> Reserved:
    bulk = next((row for row in rows if row["device"] is None), rows[0])
    return Reserved(
        task=key[0],
        generation=key[1],
        cell=bulk["cell"],
        cpu_milli=bulk["cpu_milli"],
        cpus=tuple(msgspec.json.decode(bulk["cpus"], type=list[int])),
        memory=bulk["memory"],
        devices=tuple(sorted(row["device"] for row in rows if row["device"] is not None)),
        share_milli=bulk["share_milli"],
    )


async def find_answer(reader: Reader, owner: int, key: str) -> tuple[str, str] | None:
    """What was answered to this Idempotency-Key: the hash of the body that it came with, and the answer."""
    rows = await reader.of(IdempotencyRow).filter(id=f"{owner}:{key}").values("body_hash", "response")
    return (rows[0]["body_hash"], rows[0]["response"]) if rows else None


@cache
def _spec_encoder() -> msgspec.json.Encoder:
    return msgspec.json.Encoder()


@cache
def _spec_decoder() -> msgspec.json.Decoder[TaskSpec]:
    return msgspec.json.Decoder(TaskSpec)
