"""Rows that nobody needs any more, by the column that says when, and output that was kept long enough."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tortoise.models import Model

from kohakuriver.store.columns import micros
from kohakuriver.store.models import IdempotencyRow, OnceRow, OutputRow, ReportRow, SessionRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import Statement, delete

#: what goes, the column that ages, and how long a row is kept after that
KEPT: tuple[tuple[type[Model], str, timedelta], ...] = (
    (IdempotencyRow, "created", timedelta(hours=24)),
    (SessionRow, "expires", timedelta(days=7)),
    (OnceRow, "expires", timedelta(days=7)),
    (ReportRow, "received", timedelta(days=30)),
)
#: walks ix_attempts_finished and the streams of each attempt
_OLD_OUTPUTS = (
    'SELECT a."finished" AS "finished", a."id" AS "attempt", o."id" AS "id", o."path" AS "path" '
    'FROM "attempts" AS a JOIN "outputs" AS o ON o."attempt_id" = a."id" '
    'WHERE a."finished" < ? AND (a."finished", a."id") >= (?, ?) ORDER BY a."finished", a."id" LIMIT ?'
)


@dataclass(frozen=True, kw_only=True)
class OldOutput:
    """One archived stream; `path` is its name in the blob store, if it lies there."""

    finished: int
    attempt: str
    id: str
    path: str | None


async def expired_rows(reader: Reader, now: datetime, limit: int) -> tuple[int, Statement] | None:
    """Some rows that are no longer kept: how many, and the statement that removes them. None: there are none left."""
    for model, column, kept in KEPT:
        old = reader.of(model).filter(**{f"{column}__lt": micros(now - kept)}).order_by(column).limit(limit)
        ids = [row["id"] for row in await old.values("id")]
        if ids:
            return len(ids), delete(model, where={"id__in": ids})
    return None


async def old_outputs(reader: Reader, before: datetime, after: OldOutput | None, limit: int) -> list[OldOutput]:
    """Archived streams of attempts that ended before the time, oldest first, from the attempt of `after` on."""
    start = (0, "") if after is None else (after.finished, after.attempt)
    return [OldOutput(**row) for row in await reader.rows(_OLD_OUTPUTS, [micros(before), *start, limit])]


def remove_outputs(outputs: list[OldOutput]) -> Statement:
    return delete(OutputRow, where={"id__in": [output.id for output in outputs]})
