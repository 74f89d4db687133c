"""A write and what follows from it in memory belong together, also when whoever asked for it went away."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

from kohakuriver.errors import KohakuRiverError
from kohakuriver.store.write import Statement

#: what follows in memory
Follow = Callable[[], None]
Change = tuple[Sequence[Statement], Follow]


class Writes(Protocol):
    """The store's writer."""

    async def write(self, statements: Sequence[Statement]) -> tuple[int, ...]: ...


def nothing() -> None:
    """What follows from a write that nobody remembers."""


class Commits:
    """Writes in tasks of the role's group, so that a cancelled request leaves store and memory agreeing."""

    def __init__(self, group: asyncio.TaskGroup, writer: Writes) -> None:
        self._group = group
        self._writer = writer

    async def write(self, statements: Sequence[Statement], then: Follow = nothing, otherwise: Follow = nothing) -> None:
        """Commits the statements, calls `then` at once after the commit, and returns; `otherwise` is called instead
        when nothing was stored.

        Raises what the writer raises. Cancelling it gives up the answer alone.
        """
        await self._answer(self._run(statements, then, otherwise))

    async def write_alone(self, lock: asyncio.Lock, change: Callable[[], Change]) -> None:
        """Commits what `change` says, statements and what follows from them, while nobody else who takes this lock is
        at it: for what is stored as a whole, so that each change begins from the one before. Without statements
        nothing is done.

        Raises what `change` and the writer raise. Cancelling it gives up the answer alone.
        """
        await self._answer(self._run_alone(lock, change))

    async def _answer(self, writing: Coroutine[None, None, Exception | None]) -> None:
        error = await asyncio.shield(self._group.create_task(writing))
        if error is not None:
            raise error

    async def _run_alone(self, lock: asyncio.Lock, change: Callable[[], Change]) -> Exception | None:
        async with lock:
            try:
                statements, then = change()
            # nothing was stored yet, so it is the asker's affair, whatever it is: who asked is told
            except Exception as error:  # noqa: BLE001
                return error
            return await self._run(statements, then) if statements else None

    async def _run(
        self, statements: Sequence[Statement], then: Follow, otherwise: Follow = nothing
    ) -> KohakuRiverError | None:
        try:
            await self._writer.write(statements)
        except KohakuRiverError as error:
            otherwise()
            return error
        then()
        return None
