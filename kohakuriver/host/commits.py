"""A write and what follows from it in memory belong together, also when whoever asked for it went away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from kohakuriver.errors import KohakuRiverError
from kohakuriver.store.write import Statement


class Writes(Protocol):
    """The store's writer."""

    async def write(self, statements: Sequence[Statement]) -> tuple[int, ...]: ...


class Commits:
    """Writes in tasks of the role's group, so that a cancelled request leaves store and memory agreeing."""

    def __init__(self, group: asyncio.TaskGroup, writer: Writes) -> None:
        self._group = group
        self._writer = writer

    async def write(self, statements: Sequence[Statement], then: Callable[[], None] = lambda: None) -> None:
        """Commits the statements, calls `then` at once after the commit, and returns.

        Raises what the writer raises; `then` was not called in that case. Cancelling it gives up the answer alone.
        """
        error = await asyncio.shield(self._group.create_task(self._run(statements, then)))
        if error is not None:
            raise error

    async def _run(self, statements: Sequence[Statement], then: Callable[[], None]) -> KohakuRiverError | None:
        try:
            await self._writer.write(statements)
        except KohakuRiverError as error:
            return error
        then()
        return None
