"""Time and ids, handed to whoever needs them so that tests hold the hands of the clock."""

import time
from datetime import UTC, datetime
from typing import Protocol

from kohakuriver.domain.ids import next_id


class Clock(Protocol):
    """Wall time for people, monotonic seconds for decisions."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Ids:
    """Gives out time-sorted ids, each larger than the one before, also when the clock steps back."""

    def __init__(self, clock: Clock, *, last: int = 0) -> None:
        """`last` is the largest id that the store knows."""
        self._clock = clock
        self._last = last

    def next(self) -> int:
        self._last = next_id(self._last, int(self._clock.now().timestamp() * 1000), 0)
        return self._last
