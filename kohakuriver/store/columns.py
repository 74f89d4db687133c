"""The column of ids, partial unique indexes, and how times become numbers. Knows no table."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tortoise.fields import BigIntField, ForeignKeyField
from tortoise.fields.base import Field, OnDelete
from tortoise.indexes import Index
from tortoise.models import Model

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class IdField(BigIntField):
    """A 64-bit primary key that is always given, never made by the database.

    On SQLite it is `INTEGER PRIMARY KEY`, the row id itself (https://www.sqlite.org/lang_createtable.html#rowid).
    """

    class _db_sqlite:  # noqa: N801
        SQL_TYPE = "INTEGER"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "primary_key": True, "generated": False})


def to(model: str, **more: Any) -> Any:
    """A reference to a row of that model, which cannot go while it is referred to."""
    return ForeignKeyField(f"store.{model}", on_delete=OnDelete.RESTRICT, related_name=False, **more)


class PartialUnique(NamedTuple):
    """A unique index over some rows. Tortoise has none for SQLite, so migrations run `sql()`."""

    name: str
    table: str
    columns: tuple[str, ...]
    condition: str

    def sql(self) -> str:
        columns = ", ".join(f'"{column}"' for column in self.columns)
        return f'CREATE UNIQUE INDEX IF NOT EXISTS "{self.name}" ON "{self.table}" ({columns}) WHERE {self.condition}'


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970. The time must carry its zone."""
    return (moment - EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The time, in UTC, that `micros` made the number of."""
    return EPOCH + timedelta(microseconds=value)


def micros_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else micros(moment)


def moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def table_of(model: type[Model]) -> str:
    return str(model._meta.db_table)  # noqa: SLF001


def fields_of(model: type[Model]) -> dict[str, Field[Any]]:
    """The model's fields by name; a foreign key stands once or twice, with and without `_id`."""
    return model._meta.fields_map  # noqa: SLF001


def indexes_of(model: type[Model]) -> tuple[Index, ...]:
    return tuple(index for index in model._meta.indexes or () if isinstance(index, Index))  # noqa: SLF001
