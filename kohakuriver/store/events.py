"""The history as people read it."""

from typing import Any

import msgspec

from kohakuriver.domain.ids import HIGHEST_ID
from kohakuriver.errors import Invalid
from kohakuriver.store.columns import moment
from kohakuriver.store.models import EventRow
from kohakuriver.store.reader import Reader


async def list_events(
    reader: Reader,
    *,
    task: int | None = None,
    node: int | None = None,
    user: int | None = None,
    cursor: str | None = None,
    limit: int = 100,
    newest: bool = False,
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of events as plain values, and the cursor of the next. Raises Invalid for a cursor that is none."""
    query = reader.of(EventRow)
    for column, value in (("task", task), ("node", node), ("user", user)):
        if value is not None:
            query = query.filter(**{column: value})
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 19 and int(cursor) <= HIGHEST_ID):
            raise Invalid("that is no cursor of this list", field="cursor", value=cursor)
        query = query.filter(**{"id__lt" if newest else "id__gt": int(cursor)})
    rows = await query.order_by("-id" if newest else "id").limit(limit + 1).values()
    following = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return [_plain(row) for row in rows[:limit]], following


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "at": moment(row["at"]),
        "what": row["what"],
        "actor": row["actor"],
        "task": _id(row["task"]),
        "node": _id(row["node"]),
        "user": _id(row["user"]),
        "detail": msgspec.json.decode(row["detail"]),
    }


def _id(value: int | None) -> str | None:
    return None if value is None else str(value)
