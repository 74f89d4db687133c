"""Statements with expected counts, and the one writer that commits many callers' statements together.

contracts.md §3. Knows tables only as the models name them, and nothing of tasks.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Protocol

from tortoise.fields.relational import ForeignKeyFieldInstance
from tortoise.models import Model

from kohakuriver.errors import Conflict, KohakuRiverError, MovedOn, StoreError
from kohakuriver.store.columns import fields_of, micros, table_of

log = logging.getLogger(__name__)

#: callers whose statements one commit takes at most
MOST_MEMBERS = 256
OPERATORS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

Value = Any
Where = Mapping[str, Value]


class WrongCount(MovedOn):
    """somebody else changed it in the meantime; look again and retry"""

    def __init__(self, statement: "Statement", count: int, index: int) -> None:
        super().__init__(f"{statement.what}: {count} rows instead of {statement.expect}; look again and retry")
        self.count = count
        #: which statement of the caller's list
        self.index = index


class ConstraintFailed(Conflict):
    """a rule of the store forbids this row"""

    code: ClassVar[str] = "constraint"

    def __init__(self, message: str, *, kind: str, table: str = "", columns: tuple[str, ...] = ()) -> None:
        """`kind` is unique, foreign_key, not_null or check; table and columns where the database names them."""
        super().__init__(message)
        self.kind = kind
        self.table = table
        self.columns = columns
        #: which statement of the caller's list
        self.index = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """One change and how many rows it must touch; None: any number. `?` stands for a value."""

    sql: str
    rows: tuple[tuple[Value, ...], ...]
    expect: int | None
    what: str
    many: bool = False


@dataclass(frozen=True, slots=True)
class Plus:
    """In `set`: the field's value and so much more (or less)."""

    field: str
    amount: int


@dataclass(frozen=True, slots=True)
class AtMost:
    """A condition: the rows of `model` that match `where`, and `adding` more, are no more than `limit`."""

    model: type[Model]
    where: Where
    adding: int
    limit: int


def insert(model: type[Model], **values: Value) -> Statement:
    """One new row. Fields that are not given take the model's default. A foreign key goes by name or as `<name>_id`."""
    return insert_many(model, [values])


def insert_many(model: type[Model], rows: Iterable[Mapping[str, Value]]) -> Statement:
    """New rows, all with the same fields given. Without rows it does nothing."""
    given = list(rows)
    if not given:
        return Statement("", (), 0, f"insert into {table_of(model)}", many=True)
    names = tuple(given[0])
    columns, defaults = _insert_columns(model, names)
    values = tuple((*(plain(row[name]) for name in names), *defaults) for row in given)
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO {_table(model)} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
    return Statement(sql, values, len(values), f"insert into {table_of(model)}", many=len(values) != 1)


def insert_if(model: type[Model], values: Mapping[str, Value], condition: AtMost) -> Statement:
    """One new row if the condition holds; else WrongCount. Before it in the same list, `lock` the row that the limit
    belongs to: two writers on PostgreSQL would otherwise both count the same rows.
    """
    names = tuple(values)
    columns, defaults = _insert_columns(model, names)
    marks = ", ".join("?" * len(columns))
    where, found = _where(condition.model, condition.where)
    count = f"SELECT COUNT(*) FROM {_table(condition.model)}{where}"  # noqa: S608
    sql = (
        f"INSERT INTO {_table(model)} ({', '.join(columns)}) SELECT {marks} "
        f"WHERE ({count}) + CAST(? AS BIGINT) <= CAST(? AS BIGINT)"
    )
    row = (*(plain(values[name]) for name in names), *defaults, *found, condition.adding, condition.limit)
    return Statement(sql, (row,), 1, f"insert into {table_of(model)} within a limit of {condition.limit}")


def update(
    model: type[Model],
    *,
    where: Where,
    set: Mapping[str, Value],  # noqa: A002
    expect: int | None = 1,
) -> Statement:
    """Changes rows. `where` takes `field`, `field__in`, `__ne`, `__lt`, `__lte`, `__gt`, `__gte` and `__isnull`."""
    assignments, values = [], []
    for name, value in set.items():
        column = column_of(model, name)
        if isinstance(value, Plus):
            assignments.append(f"{column} = {column_of(model, value.field)} + ?")
            values.append(value.amount)
        else:
            assignments.append(f"{column} = ?")
            values.append(plain(value))
    condition, found = _where(model, where)
    sql = f"UPDATE {_table(model)} SET {', '.join(assignments)}{condition}"  # noqa: S608
    return Statement(sql, ((*values, *found),), expect, f"update of {table_of(model)}")


def delete(model: type[Model], *, where: Where, expect: int | None = None) -> Statement:
    """Removes rows."""
    condition, found = _where(model, where)
    sql = f"DELETE FROM {_table(model)}{condition}"  # noqa: S608
    return Statement(sql, (tuple(found),), expect, f"removal from {table_of(model)}")


def lock(model: type[Model], **key: Value) -> Statement:
    """Holds the one row with this key until the commit; WrongCount if it is not there. Changes nothing."""
    name = next(iter(key))
    condition, found = _where(model, key)
    column = column_of(model, name)
    sql = f"UPDATE {_table(model)} SET {column} = {column}{condition}"  # noqa: S608
    return Statement(sql, (tuple(found),), 1, f"lock of {table_of(model)}")


def plain(value: Value) -> Value:
    """The value as both databases take it: times in microseconds, enumerations as text."""
    if isinstance(value, datetime):
        return micros(value)
    return value.value if isinstance(value, Enum) else value


@cache
def column_of(model: type[Model], name: str) -> str:
    """The quoted column of a field. Raises ValueError when the model has no such field."""
    fields = fields_of(model)
    field = fields.get(name) or fields.get(name.removesuffix("_id"))
    if field is None:
        raise ValueError(f"{model.__name__} has no field {name}")
    if isinstance(field, ForeignKeyFieldInstance):
        return f'"{name.removesuffix("_id")}_id"'
    return f'"{field.source_field or name}"'


@cache
def _insert_columns(model: type[Model], names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """The columns of a new row with these fields given, and the values of those that are not."""
    given = tuple(column_of(model, name) for name in names)
    rest: dict[str, Value] = {}
    for name, field in fields_of(model).items():
        column = column_of(model, name)
        if column in given or column in rest:
            continue
        if field.default is None and not field.null:
            raise ValueError(f"{model.__name__}.{name} needs a value")
        rest[column] = plain(field.default)
    return (*given, *rest), tuple(rest.values())


def _where(model: type[Model], where: Where) -> tuple[str, list[Value]]:
    parts: list[str] = []
    values: list[Value] = []
    for key, value in where.items():
        name, _, operator = key.partition("__")
        part, found = _condition(column_of(model, name), operator, value)
        parts.append(part)
        values.extend(found)
    return (" WHERE " + " AND ".join(parts) if parts else ""), values


def _condition(column: str, operator: str, value: Value) -> tuple[str, list[Value]]:
    if operator == "in":
        items = [plain(item) for item in value]
        return (f"{column} IN ({', '.join('?' * len(items))})" if items else "1 = 0"), items
    if operator == "isnull" or (value is None and operator in {"", "ne"}):
        null = bool(value) if operator == "isnull" else operator == ""
        return f"{column} IS {'' if null else 'NOT '}NULL", []
    sign = {"": "=", "ne": "<>", **OPERATORS}.get(operator)
    if sign is None:
        raise ValueError(f"{operator} is no operator: in, isnull, ne, lt, lte, gt or gte")
    return f"{column} {sign} ?", [plain(value)]


def _table(model: type[Model]) -> str:
    return f'"{table_of(model)}"'


Outcome = tuple[int, ...] | KohakuRiverError


class Committing(Protocol):
    """What the writer's thread writes through; `group.py` is the one in use."""

    def outcomes(self, members: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """Commits the members in one transaction and says what became of each. Never raises."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Member:
    statements: Sequence[Statement]
    answer: "asyncio.Future[tuple[int, ...]]"


class Writer:
    """The only writer of the store. Made and closed by `open_store`."""

    def __init__(self, connect: Callable[[], Committing]) -> None:
        """`connect` runs in the writer's thread."""
        self._connect = connect
        self._waiting: queue.SimpleQueue[_Member | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[None]
        self._ended: asyncio.Future[None]

    async def start(self) -> None:
        """Starts the thread and waits for its connection. Raises what `connect` raises."""
        self._loop = asyncio.get_running_loop()
        self._started, self._ended = self._loop.create_future(), self._loop.create_future()
        self._thread.start()
        await self._started

    async def write(self, statements: Sequence[Statement]) -> tuple[int, ...]:
        """Commits all statements or none, together with other callers', and returns their row counts once the commit
        is on the disk.

        Raises WrongCount or ConstraintFailed with the `index` of the statement at fault, StorageFull, or StoreError;
        then nothing was stored. Cancelling gives up the answer, never the write.
        """
        if self._closing:
            raise StoreError("the store is closing; try again on the next start")
        answer: asyncio.Future[tuple[int, ...]] = self._loop.create_future()
        self._waiting.put(_Member(tuple(statements), answer))
        return await answer

    async def close(self) -> None:
        """Commits what waits, then closes the connection. A second call waits for the first."""
        if not self._closing:
            self._closing = True
            self._waiting.put(None)
        await asyncio.shield(self._ended)

    def _run(self) -> None:
        try:
            connection = self._connect()
        # whatever it was: `start` is told
        except BaseException as error:  # noqa: BLE001
            self._tell(_settle, [(self._started, error), (self._ended, None)])
            return
        self._tell(_settle, [(self._started, None)])
        try:
            while members := self._take():
                outcomes = connection.outcomes([member.statements for member in members])
                self._tell(_settle, [(m.answer, o) for m, o in zip(members, outcomes, strict=True)])
        finally:
            connection.close()
            self._tell(_settle, [(self._ended, None)])

    def _take(self) -> list[_Member]:
        """Waits for the first member and takes who waits behind it; nobody: the queue is at its end."""
        member = self._waiting.get()
        members: list[_Member] = []
        while member is not None:
            members.append(member)
            if len(members) == MOST_MEMBERS:
                return members
            try:
                member = self._waiting.get_nowait()
            except queue.Empty:
                return members
        if members:
            self._waiting.put(None)
        return members

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.warning("the event loop ended before the store was closed", extra={"action": "store_answer"})


def _settle(answers: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in answers:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
