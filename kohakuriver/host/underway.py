"""Placements that were decided and are not committed yet: two plans made meanwhile would otherwise both use up one
limit. Forgets by itself what nobody reports back.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from kohakuriver.domain.limits import Held, held_for
from kohakuriver.domain.needs import need_of
from kohakuriver.domain.tasks import Task

#: seconds after which a decision is taken to have come to nothing
FORGOTTEN = 5.0


class Underway:
    """Tasks between a plan and its commit."""

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[Task, float]] = {}

    def add(self, tasks: Iterable[Task], now: float) -> None:
        """They are being placed. `now` is monotonic."""
        for task in tasks:
            self._tasks[task.id] = (task, now)

    def drop(self, tasks: Iterable[int]) -> None:
        """They are placed, or will not be."""
        for task in tasks:
            self._tasks.pop(task, None)

    def held(self, now: float) -> dict[int, Held]:
        """What they will hold, by owner."""
        sums: dict[int, Held] = {}
        for task in self._current(now):
            sums[task.owner] = sums.get(task.owner, Held()).plus(held_for(need_of(task.spec)))
        return sums

    def arrays(self, now: float) -> Counter[int]:
        """How many there are of each array that allows only so many at once, by batch."""
        limited = (task for task in self._current(now) if task.spec.array is not None and task.spec.array.most)
        return Counter(task.batch for task in limited)

    def _current(self, now: float) -> Iterator[Task]:
        for old in [id for id, (_, since) in self._tasks.items() if now - since > FORGOTTEN]:
            del self._tasks[old]
        return (task for task, _ in self._tasks.values())
