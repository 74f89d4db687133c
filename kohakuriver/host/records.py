"""Rows for what the ledger commits: attempts, reservations, history, output. Builds statements, runs none."""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from kohakuriver.domain.events import SIGNALLED
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import Task
from kohakuriver.host.cause import Cause
from kohakuriver.store.columns import micros
from kohakuriver.store.models import AttemptRow, EventRow, OutputRow, ReportRow, ReservationRow
from kohakuriver.store.write import Statement, delete, insert, insert_many, update
from kohakuriver.wire import codec
from kohakuriver.wire.link import Report, Sealed

#: wire.md §2
LONGEST_REASON = 1000
SIGNALS = frozenset(status.value for status in SIGNALLED)


def attempt_placed(task: Task, epoch: int, now: datetime) -> Statement:
    return insert(
        AttemptRow,
        id=task.attempt,
        task_id=task.id,
        generation=task.generation,
        node_id=task.node,
        epoch=epoch,
        state="assigned",
        placed=micros(now),
    )


def attempt_reported(report: Report, now: datetime) -> Mapping[str, object]:
    """The columns of an attempt that a report changes."""
    at = micros(now)
    changed: dict[str, object] = {"state": report.what}
    if report.what == "accepted":
        changed["accepted"] = at
    elif report.what == "started":
        changed["started"] = at
    elif report.what in {"refused_for_now", "refused_for_good", "start_failed", "never_started"}:
        changed |= {"finished": at, "exit_reason": sentence(report.reason)}
    elif report.what == "exited":
        changed |= _exited(report, at)
    return changed


def attempt_requeued(task: Task, reason: str, now: datetime) -> Statement:
    """The present attempt, over without a word from its node: nothing that it says later counts."""
    return attempt_change(task.attempt, {"state": "requeued", "finished": micros(now), "exit_reason": reason})


def _exited(report: Report, at: int) -> dict[str, object]:
    signalled = report.signalled if report.signalled in SIGNALS else None
    changed: dict[str, object] = {"finished": at, "signalled": signalled}
    if report.exit is not None:
        changed |= {
            "exit_code": report.exit.code,
            "exit_signal": report.exit.signal,
            "exit_oom": report.exit.oom,
            "exit_reason": sentence(report.exit.reason),
        }
    if report.usage is not None:
        changed |= {
            "cpu_seconds": report.usage.cpu_seconds,
            "memory_peak": report.usage.memory_peak,
            "running_seconds": report.usage.running_seconds,
        }
    return changed


def sentence(text: str | None) -> str | None:
    """A runner's words as they are kept: not longer than wire.md allows, and without NUL, which PostgreSQL refuses."""
    return None if text is None else text[:LONGEST_REASON].replace("\0", "\N{REPLACEMENT CHARACTER}")


def attempt_change(attempt: str, changed: Mapping[str, object]) -> Statement:
    return update(AttemptRow, where={"id": attempt}, set=dict(changed), expect=1)


def reserve(task: Task, reserved: Reserved) -> list[Statement]:
    """The rows of a reservation: one for cores and memory, one more for each device."""
    node = task.node
    rows: list[dict[str, object]] = [
        {
            "id": task.attempt,
            "task_id": task.id,
            "generation": task.generation,
            "node_id": node,
            "cell": reserved.cell,
            "cpu_milli": reserved.cpu_milli,
            "cpus": codec.encode(list(reserved.cpus)).decode(),
            "memory": reserved.memory,
            "device": None,
            "share_milli": reserved.share_milli,
        }
    ]
    rows += [
        {
            "id": f"{task.attempt}/{device}",
            "task_id": task.id,
            "generation": task.generation,
            "node_id": node,
            "cell": reserved.cell,
            "cpu_milli": 0,
            "cpus": "[]",
            "memory": 0,
            "device": device,
            "share_milli": reserved.share_milli,
        }
        for device in reserved.devices
    ]
    return [insert_many(ReservationRow, rows)]


def free(task: Task) -> Statement:
    return delete(ReservationRow, where={"task_id": task.id, "generation": task.generation}, expect=None)


def event(
    id: int,
    now: datetime,
    what: str,
    cause: Cause,
    *,
    task: int | None = None,
    node: int | None = None,
    user: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """One row of the history."""
    return {
        "id": id,
        "at": micros(now),
        "what": what,
        "actor_id": cause.user,
        "actor": cause.actor,
        "task": task,
        "node": node,
        "user": user,
        "detail": codec.encode({**cause.detail, **(detail or {})}).decode(),
    }


def events(rows: list[dict[str, object]]) -> list[Statement]:
    return [insert_many(EventRow, rows)] if rows else []


def outputs(report: Report) -> list[Statement]:
    """The output that rode in an exit, if both streams did."""
    if not inline(report):
        return []
    return [
        output(report.attempt, stream, sealed, data=sealed.data or b"")
        for stream, sealed in (("stdout", report.stdout), ("stderr", report.stderr))
        if sealed is not None
    ]


def inline(report: Report) -> bool:
    """Whether nothing of its output is left at the node."""
    return all(
        sealed is None or sealed.head + sealed.tail == len(sealed.data or b"") <= sealed.size
        for sealed in (report.stdout, report.stderr)
    )


def output(
    attempt: str, stream: str, sealed: Sealed, *, data: bytes | None = None, path: str | None = None
) -> Statement:
    return insert(
        OutputRow,
        id=f"{attempt}/{stream}",
        attempt_id=attempt,
        stream=stream,
        size=sealed.size,
        head=sealed.head,
        tail=sealed.tail,
        at_least=sealed.at_least,
        data=data,
        path=path,
    )


def report_kept(node: int, epoch: int, report: Report, now: datetime) -> dict[str, object]:
    """A report that changed nothing, kept for those who look into it."""
    return {
        "id": f"{node}.{epoch}.{report.seq}",
        "node_id": node,
        "epoch": epoch,
        "seq": report.seq,
        "attempt": sentence(report.attempt[:40]),
        "what": sentence(report.what[:32]),
        "payload": codec.encode(_without_output(report)).decode(),
        "applied": False,
        "received": micros(now),
    }


def reports(rows: list[dict[str, object]]) -> list[Statement]:
    return [insert_many(ReportRow, rows)] if rows else []


def _without_output(report: Report) -> dict[str, object]:
    return {
        "what": report.what[:32],
        "attempt": report.attempt[:40],
        "reason": sentence(report.reason),
        "exit": None if report.exit is None else replace(report.exit, reason=sentence(report.exit.reason)),
        "signalled": report.signalled if report.signalled in SIGNALS else None,
        "found": found(report),
    }


def found(report: Report) -> dict[str, str]:
    """What a runner says of a body that it found, cut to a size that can be kept."""
    return {key[:40]: value[:80] for key, value in islice((report.found or {}).items(), 20)}
