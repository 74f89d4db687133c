"""A long step of work that blocks, in threads: how far it is, and an end of it that leaves nobody behind."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from kohakuriver.errors import KohakuRiverError
from kohakuriver.hooks.backend import Progress

#: bytes between two words of progress
STRIDE = 4 << 20

T = TypeVar("T")


class Stopped(KohakuRiverError):
    """nobody waits for this any more"""


class Step:
    """Made on the event loop. `run` from there, one at a time; `reach` and `count` in the threads."""

    def __init__(self, in_thread: Callable[..., Awaitable[Any]], progress: Progress, note: str, total: int) -> None:
        self._in_thread = in_thread
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._note = note
        self._total = total
        self._done = self._told = 0
        self._guard = threading.Lock()
        self._stopped = self._busy = False
        self._idle = asyncio.Event()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """The function's answer. Cancelled, it stops the step, and returns when no thread is in the function."""
        try:
            return await self._in_thread(self._carry, function, *arguments)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Nothing of the step runs on return, and nothing begins any more. May be called twice."""
        with self._guard:
            self._stopped = True
            busy = self._busy
        if busy:
            await self._idle.wait()

    def reach(self, done: int) -> None:
        """So many bytes are done. Raises Stopped when nobody waits for them."""
        self.check()
        self._done = done
        if not self._told or done - self._told >= STRIDE:
            self._told = max(done, 1)
            self._loop.call_soon_threadsafe(self._progress, self._note, min(done, self._total), self._total)

    def check(self, *_: object) -> None:
        """Raises Stopped when nobody waits any more."""
        if self._stopped:
            raise Stopped

    def count(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, each counted when it is taken."""
        for piece in pieces:
            self.reach(self._done + len(piece))
            yield piece

    def _carry(self, function: Callable[..., T], *arguments: Any) -> T:
        with self._guard:
            if self._stopped:
                raise Stopped
            self._busy = True
        try:
            return function(*arguments)
        finally:
            with self._guard:
                self._busy = False
                if self._stopped:
                    self._loop.call_soon_threadsafe(self._idle.set)
