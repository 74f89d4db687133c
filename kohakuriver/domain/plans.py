"""What a plan says: placements, and for whatever waits a reason and a place in the queue, worked out when asked."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kohakuriver.domain.queue import Queue, group_of, rank
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.shapes import Shape
from kohakuriver.domain.tasks import Status, Task, Wanted


@dataclass(frozen=True, kw_only=True)
class Placement:
    """This task goes there with this reservation. Its generation is the one that `Placed` will give it."""

    task: int
    node: int
    reserved: Reserved


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Placements in the order in which they were made; for every other pending task a reason, worded when asked."""

    placements: tuple[Placement, ...] = ()
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    #: how many waiting tasks come before this one
    ahead: Mapping[int, int] = field(default_factory=dict)
    #: seconds after which the first that wait start at the latest, for those of which that is known
    starts: Callable[[], Mapping[int, float]] = dict
    #: how many wait for which reason, by its code
    tally: Callable[[], Mapping[str, int]] = Counter


_NOTHING: Final[Mapping[int, Reason]] = {}
_PAUSED: Final = Reason(code="paused", text="is wanted paused; resume it to let it start")
_ENDING: Final = Reason(code="ending", text="is wanted ended")
_APPROVAL: Final = Reason(code="approval", text="waits for an operator's approval")


def told_of(task: Task, blocked: Mapping[int, Reason] = _NOTHING) -> Reason | None:
    """Why the task waits although it is not in the queue; None when it is, or does not wait at all."""
    if task.status is Status.PENDING_APPROVAL:
        return _APPROVAL
    if task.status is not Status.PENDING:
        return None
    if task.wanted is not Wanted.RUN:
        return _PAUSED if task.wanted is Wanted.PAUSED else _ENDING
    return blocked.get(task.id)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why `count` tasks of a group wait: for room, unless one of the others is set."""

    shape: Shape
    count: int
    #: the owner whose limit it is
    owner: int | None = None
    #: a reason that needs no looking at the nodes
    reason: Reason | None = None


class Waiting:
    """What a plan leaves in the queue. Groups that changed since are told of as they were."""

    def __init__(self, queue: Queue, placed: Mapping[int, Task], causes: Mapping[object, Cause]) -> None:
        self.queue = queue
        self.placed = placed
        self.causes = causes

    def __contains__(self, task: object) -> bool:
        return task in self.queue and task not in self.placed

    def __iter__(self) -> Iterator[int]:
        return (task.id for task in self.queue if task.id not in self.placed)

    def __len__(self) -> int:
        return len(self.queue) - sum(task in self.queue for task in self.placed)


class Ahead(Mapping[int, int]):
    """How many wait before a task."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def __getitem__(self, task: int) -> int:
        if task not in self._waiting:
            raise KeyError(task)
        found = self._waiting.queue.task(task)
        placed = (one for one in self._waiting.placed.values() if one.id in self._waiting.queue)
        return self._waiting.queue.ahead(found) - sum(rank(one) < rank(found) for one in placed)

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)


class Reasons(Mapping[int, Reason]):
    """Reasons by what is left at the end of the plan, worded when somebody asks, once for all tasks of a group."""

    def __init__(self, told: Mapping[int, Reason], waiting: Waiting, word: Callable[[Cause], Reason]) -> None:
        self._told = told
        self._waiting = waiting
        self._word = word
        self._worded: dict[int, Reason] = {}

    def __getitem__(self, task: int) -> Reason:
        if task not in self._waiting:
            return self._told[task]
        cause = self._waiting.causes.get(group_of(self._waiting.queue.task(task)))
        if cause is None:
            raise KeyError(task)
        return self._reason(cause)

    def _reason(self, cause: Cause) -> Reason:
        reason = self._worded.get(id(cause))
        if reason is None:
            reason = self._worded[id(cause)] = self._word(cause)
        return reason

    def tally(self) -> Counter[str]:
        """How many tasks wait for which reason, by its code."""
        counts = Counter(reason.code for reason in self._told.values())
        for cause in self._waiting.causes.values():
            counts[self._reason(cause).code] += cause.count
        return counts

    def __iter__(self) -> Iterator[int]:
        yield from self._told
        yield from (task for task in self._waiting if group_of(self._waiting.queue.task(task)) in self._waiting.causes)

    def __len__(self) -> int:
        return sum(1 for _ in self)
