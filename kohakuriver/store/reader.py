"""The connections that reads go through: tortoise's, and none of them can write."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any, TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import ConnectionHandler
from tortoise.context import TortoiseContext, set_global_context
from tortoise.models import Model
from tortoise.queryset import QuerySet

M = TypeVar("M", bound=Model)

APPS: dict[str, dict[str, Any]] = {
    "store": {
        "models": ["kohakuriver.store.models"],
        "migrations": "kohakuriver.store.migrations",
        "default_connection": "default",
    }
}


class _Open(TortoiseContext):
    """What tortoise asks, in whatever task a query is built, for the dialect of its models: the store opened last.

    Only the dialect comes from here; a query from `Reader.of` is bound to its connection. So a process may hold several
    open stores, but of one dialect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[TortoiseContext] = []

    @property
    def connections(self) -> ConnectionHandler:
        return self.contexts[-1].connections if self.contexts else super().connections


_OPEN = _Open()
set_global_context(_OPEN)


class Reader:
    """Hands out queries, each bound to the next connection. No query holds a transaction open."""

    def __init__(self, context: TortoiseContext, names: tuple[str, ...]) -> None:
        self._context = context
        self.clients: tuple[BaseDBAsyncClient, ...] = tuple(context.connections.get(name) for name in names)
        self._next = cycle(self.clients)
        _OPEN.contexts.append(context)

    def of(self, model: type[M]) -> QuerySet[M]:
        """All rows of the model, to be narrowed and awaited."""
        return QuerySet(model).using_db(next(self._next))

    async def rows(self, sql: str, values: list[Any]) -> list[dict[str, Any]]:
        """The rows of a raw query; `?` stands for a value."""
        client = next(self._next)
        return [dict(row) for row in await client.execute_query_dict(numbered(sql, client), values)]

    async def close(self) -> None:
        """May be called twice."""
        if self._context in _OPEN.contexts:
            _OPEN.contexts.remove(self._context)
            await self._context.connections.close_all(discard=True)


async def open_reader(connections: Mapping[str, Any]) -> Reader:
    """Connections by name, the first called `default`, ready for every model."""
    context = TortoiseContext()
    with context:
        await context.init(config={"connections": dict(connections), "apps": APPS})
    return Reader(context, tuple(connections))


def numbered(sql: str, client: BaseDBAsyncClient) -> str:
    """The query with the marks that the client's database takes."""
    return to_dollars(sql) if client.capabilities.dialect == "postgres" else sql


def to_dollars(sql: str) -> str:
    """`?` as `$1`, `$2` and so on. Our statements hold no other question mark."""
    first, *rest = sql.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))
