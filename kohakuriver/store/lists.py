"""Lists of tasks by key: a page costs the same at the first row and at the hundred-thousandth.

Every sort has an index that ends in the id (models.py). Where the sorted column may be empty, rows without a value
come after all others, whatever the direction.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kohakuriver.domain.tasks import Task
from kohakuriver.errors import Invalid
from kohakuriver.store.reader import Reader
from kohakuriver.store.tasks import task_of

#: what lists can be sorted by, and whether it may be empty; a minus before it turns the order round
SORTS = {"id": False, "submitted": False, "started": True, "finished": True, "priority": False, "name": True}
MOST_CURSOR = 1024


@dataclass(frozen=True, kw_only=True)
class _Order:
    column: str
    down: bool
    nullable: bool

    @property
    def sql(self) -> str:
        way = "DESC" if self.down else "ASC"
        return f'"id" {way}' if self.column == "id" else f'"{self.column}" {way}, "id" {way}'


class _Cursor(msgspec.Struct, array_like=True):
    """Where the page before ended. `empty`: among the rows without a value."""

    sort: str
    value: int | str | None
    id: int
    empty: bool = False


async def list_rows(
    reader: Reader,
    *,
    statuses: Sequence[str] | None = None,
    owner: int | None = None,
    node: int | None = None,
    name: str | None = None,
    batch: int | None = None,
    kind: str | None = None,
    sort: str = "-id",
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[Task], str | None]:
    """A page of tasks and the cursor of the next. Raises Invalid for a sort or cursor that is none."""
    order = _order(sort)
    after = _read(cursor, sort)
    columns: dict[str, Any] = {"owner_id": owner, "node_id": node, "name": name, "batch": batch, "kind": kind}
    if statuses and len(statuses) == 1:
        columns["status"], statuses = statuses[0], None
    where = [(f'"{column}" = ?', value) for column, value in columns.items() if value is not None]
    rows: list[dict[str, Any]] = []
    if after is None or not after.empty:
        rows = await _part(reader, where, statuses, order, after, limit=limit + 1, empty=False)
    if order.nullable and len(rows) <= limit:
        tail = after if after is not None and after.empty else None
        rows += await _part(reader, where, statuses, order, tail, limit=limit + 1 - len(rows), empty=True)
    more = len(rows) > limit
    rows = rows[:limit]
    following = _write(sort, order, rows[-1]) if more else None
    return [task_of(row) for row in rows], following


async def _part(
    reader: Reader,
    where: list[tuple[str, Any]],
    statuses: Sequence[str] | None,
    order: _Order,
    after: _Cursor | None,
    *,
    limit: int,
    empty: bool,
) -> list[dict[str, Any]]:
    """Rows with a value in the sorted column, or those without."""
    by_id = _Order(column="id", down=order.down, nullable=False)
    sign = "<" if order.down else ">"
    if order.nullable:
        where = [*where, (f'"{order.column}" IS {"" if empty else "NOT "}NULL', _NOTHING)]
    if empty or order.column == "id":
        further = [] if after is None else [(f'"id" {sign} ?', after.id)]
        return await _ask(reader, [*where, *further], statuses, by_id, limit)
    if after is None:
        return await _ask(reader, where, statuses, order, limit)
    # first the rest of those with the same value: SQLite walks no index to a pair of column and row id
    same = [*where, (f'"{order.column}" = ?', after.value), (f'"id" {sign} ?', after.id)]
    rows = await _ask(reader, same, statuses, by_id, limit)
    if len(rows) < limit:
        beyond = [*where, (f'"{order.column}" {sign} ?', after.value)]
        rows += await _ask(reader, beyond, statuses, order, limit - len(rows))
    return rows


async def _ask(
    reader: Reader, where: list[tuple[str, Any]], statuses: Sequence[str] | None, order: _Order, limit: int
) -> list[dict[str, Any]]:
    condition = " AND ".join(text for text, _ in where)
    sql, values = _select(condition, [value for _, value in where if value is not _NOTHING], statuses, order, limit)
    return await reader.rows(sql, values)


_NOTHING = object()


def _select(
    condition: str, values: list[Any], statuses: Sequence[str] | None, order: _Order, limit: int
) -> tuple[str, list[Any]]:
    """One query; with several statuses one branch each, so that each walks its own index and stops early."""
    if not statuses:
        where = f" WHERE {condition}" if condition else ""
        return f'SELECT * FROM "tasks"{where} ORDER BY {order.sql} LIMIT ?', [*values, limit]  # noqa: S608
    more = f" AND {condition}" if condition else ""
    branch = f'SELECT * FROM (SELECT * FROM "tasks" WHERE "status" = ?{more} ORDER BY {order.sql} LIMIT ?) AS "part"'  # noqa: S608
    bound: list[Any] = []
    for status in statuses:
        bound += [status, *values, limit]
    union = " UNION ALL ".join([branch] * len(statuses))
    return f'SELECT * FROM ({union}) AS "all" ORDER BY {order.sql} LIMIT ?', [*bound, limit]  # noqa: S608


def _order(sort: str) -> _Order:
    column = sort.removeprefix("-")
    if column not in SORTS:
        raise Invalid("tasks cannot be sorted by that", field="sort", value=sort, limit=", ".join(SORTS))
    # ids rise with the time of submission, so that their own order serves
    return _Order(column="id" if column == "submitted" else column, down=sort.startswith("-"), nullable=SORTS[column])


def _write(sort: str, order: _Order, row: dict[str, Any]) -> str:
    value = row[order.column]
    cursor = _Cursor(sort, None if order.column == "id" else value, row["id"], value is None)
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _read(text: str | None, sort: str) -> _Cursor | None:
    if text is None:
        return None
    if len(text) > MOST_CURSOR:
        raise Invalid("that is no cursor of this list", field="cursor", value=text)
    try:
        padded = text + "=" * (-len(text) % 4)
        cursor = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Cursor)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise Invalid("that is no cursor of this list", field="cursor", value=text) from None
    if cursor.sort != sort or not 0 <= cursor.id < 1 << 63:
        raise Invalid("this cursor belongs to another order", field="cursor", value=text, limit=cursor.sort)
    if not _fits(cursor, _order(sort).column):
        raise Invalid("that is no cursor of this list", field="cursor", value=text)
    return cursor


def _fits(cursor: _Cursor, column: str) -> bool:
    """Whether its value is one that the column may hold. It came from outside, and databases differ in what they make
    of a text where a number stands.
    """
    if column in {"id", "submitted"} or cursor.empty:
        return cursor.value is None
    if column == "name":
        return isinstance(cursor.value, str)
    return isinstance(cursor.value, int) and abs(cursor.value) < 1 << 63
