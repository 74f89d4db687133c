"""A clock that stands until a test moves it."""

from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """Wall time and monotonic seconds that move together, unless a test steps the wall clock alone."""

    def __init__(self, now: datetime = BEGINNING) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Sets the wall clock, as somebody with `date` does."""
        self._now += timedelta(seconds=seconds)
