"""Answers that take the loop a while, one after the other: each leaves it to everybody else for as long as it took."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from kohakuriver.errors import TooMany
from kohakuriver.host.clock import Clock

T = TypeVar("T")

MOST_WAITING = 32
LONGEST_PAUSE = 0.25


class Turns:
    """One at a time, 32 more may wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked = 0

    async def take(self, look: Callable[[], T]) -> T:
        """What `look` finds when its turn has come. Raises what it raises, and TooMany when so many wait already."""
        if self._asked > MOST_WAITING:
            raise TooMany("too many ask what would be; try again in a moment")
        self._asked += 1
        try:
            async with self._lock:
                began = self._clock.monotonic()
                found = look()
                await asyncio.sleep(min(LONGEST_PAUSE, self._clock.monotonic() - began))
                return found
        finally:
            self._asked -= 1
