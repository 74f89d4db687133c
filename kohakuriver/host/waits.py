"""How long tasks waited from submit to start, counted for monitoring. In memory; begins anew with the process."""

from bisect import bisect_left
from itertools import accumulate

from kohakuriver.domain.tasks import Task

#: seconds; from at once to a week
BOUNDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)


class Waits:
    """A histogram."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        #: of all waits, in seconds
        self.sum = 0.0

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change; a task counts once, with its first start."""
        if before.started is not None or after.started is None:
            return
        waited = max(0.0, (after.started - after.submitted).total_seconds())
        self._counts[bisect_left(BOUNDS, waited)] += 1
        self.sum += waited

    def cumulative(self) -> list[tuple[float, int]]:
        """How many waited at most so long; the last bound is infinite."""
        return list(zip((*BOUNDS, float("inf")), accumulate(self._counts), strict=True))
