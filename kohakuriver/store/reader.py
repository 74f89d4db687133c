"""The connections that reads go through: tortoise's, and none of them can write."""

import contextvars
from collections.abc import Awaitable, Generator, Mapping
from itertools import cycle
from typing import Any, TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.context import TortoiseContext
from tortoise.models import Model
from tortoise.queryset import QuerySet

M = TypeVar("M", bound=Model)
T = TypeVar("T")

APPS = {
    "store": {
        "models": ["kohakuriver.store.models"],
        "migrations": "kohakuriver.store.migrations",
        "default_connection": "default",
    }
}


class Reader:
    """Hands out queries, each bound to the next connection. No query holds a transaction open."""

    def __init__(self, context: TortoiseContext, names: tuple[str, ...]) -> None:
        """Must be called inside the context."""
        self._tortoise = context
        self._context = contextvars.copy_context()
        self.clients: tuple[BaseDBAsyncClient, ...] = tuple(context.connections.get(name) for name in names)
        self._next = cycle(self.clients)

    def of(self, model: type[M]) -> QuerySet[M]:
        """All rows of the model, to be narrowed and given to `fetch`."""
        client = next(self._next)
        queryset = QuerySet(model)
        queryset.capabilities = client.capabilities
        return queryset.using_db(client)

    async def fetch(self, query: Awaitable[T]) -> T:
        """The answer to a query made from `of`. Tortoise builds its SQL from what the current context knows, and the
        callers' contexts know of no store; so it is built in ours.
        """
        return await _Elsewhere(query, self._context)

    async def rows(self, sql: str, values: list[Any]) -> list[dict[str, Any]]:
        """The rows of a raw query; `?` stands for a value."""
        client = next(self._next)
        return list(await client.execute_query_dict(numbered(sql, client), values))

    async def close(self) -> None:
        await self._tortoise.connections.close_all(discard=True)


class _Elsewhere(Awaitable[T]):
    """An awaitable that begins in another context: tortoise builds its SQL in `__await__` itself."""

    def __init__(self, query: Awaitable[T], context: contextvars.Context) -> None:
        self._query = query
        self._context = context

    def __await__(self) -> Generator[Any, Any, T]:
        return self._context.run(self._query.__await__)


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
