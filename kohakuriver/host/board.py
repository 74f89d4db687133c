"""The open tasks and what they hold, in memory, as last committed. Written by `ledger.py` and `submit.py` alone.

The store is the truth; this is its open part, so that scheduling, dispatch and answers need no query.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import FINAL, HOLDING, Kind, Status, Task, Wanted


class Board:
    """Open tasks by id, queue and node. Nothing here waits or fails."""

    def __init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        self._reserved: dict[int, dict[int, Reserved]] = {}
        self._queue: dict[object, list[tuple[int, int]]] = {}
        self._open: Counter[int] = Counter()
        self._statuses: Counter[str] = Counter()
        self._arrays: Counter[int] = Counter()
        #: tasks that are not in the queue although they could be placed: they wait for others
        self._held_back: set[int] = set()

    def get(self, task: int) -> Task | None:
        return self._tasks.get(task)

    def all(self) -> Iterable[Task]:
        return self._tasks.values()

    def on_node(self, node: int) -> list[Task]:
        """Tasks whose current attempt holds something on the node."""
        return [self._tasks[task] for task in self._reserved.get(node, ()) if task in self._tasks]

    def reserved(self, node: int) -> Mapping[int, Reserved]:
        """What is held on the node, by task."""
        return self._reserved.get(node, {})

    def open_of(self, owner: int) -> int:
        return self._open[owner]

    def arrays(self) -> Mapping[int, int]:
        """How many tasks hold a place of each array that allows only so many at once, by batch."""
        return self._arrays

    def statuses(self) -> Mapping[str, int]:
        """How many open tasks there are of each status."""
        return {status: count for status, count in self._statuses.items() if count}

    @property
    def waiting(self) -> int:
        """Length of the queue."""
        return sum(map(len, self._queue.values()))

    def put(self, task: Task, reserved: Reserved | None = None) -> None:
        """The task as it stands now. A reservation goes with the end, and stays when none is given otherwise."""
        before = self._tasks.pop(task.id, None)
        if before is not None:
            self._leave(before)
        if task.status in HOLDING and task.node is not None:
            if reserved is not None:
                self._reserved.setdefault(task.node, {})[task.id] = reserved
        elif before is not None and before.node is not None:
            self._reserved.get(before.node, {}).pop(task.id, None)
        if task.status in FINAL:
            return
        self._tasks[task.id] = task
        self._open[task.owner] += 1
        self._statuses[task.status] += 1
        if limited(task) and task.status in HOLDING:
            self._arrays[task.batch] += 1
        if queued(task) and task.id not in self._held_back:
            insort(self._queue.setdefault(shape(task), []), rank(task))

    def hold(self, task: int) -> None:
        """Keeps the task out of the queue. May be called before the task is put here, and twice."""
        known = self._tasks.get(task)
        if known is not None:
            self._leave_queue(known)
        self._held_back.add(task)

    def release(self, task: int) -> None:
        """Lets the task into the queue. May be called for one that was not held."""
        if task not in self._held_back:
            return
        self._held_back.discard(task)
        known = self._tasks.get(task)
        if known is not None and queued(known):
            insort(self._queue.setdefault(shape(known), []), rank(known))

    def heads(self, most: int) -> list[Task]:
        """The first `most` of every group of tasks that ask for the same, in queue order.

        Tasks of one group are interchangeable for placement, so nobody further back could be placed instead. Of an
        array with a limit there come as many as it still allows.
        """
        ranks = sorted(entry for group in self._queue.values() for entry in group[: self._allowed(group, most)])
        return [self._tasks[task] for _, task in ranks]

    def _allowed(self, group: list[tuple[int, int]], most: int) -> int:
        first = self._tasks[group[0][1]]
        array = first.spec.array
        if array is None or array.most is None:
            return most
        return min(most, max(0, array.most - self._arrays[first.batch]))

    def queue(self) -> Iterator[Task]:
        """Every waiting task in queue order."""
        for _, task in sorted(entry for group in self._queue.values() for entry in group):
            yield self._tasks[task]

    def ahead(self, task: Task) -> int:
        """How many tasks stand before this one in the queue."""
        mine = rank(task)
        return sum(bisect_left(group, mine) for group in self._queue.values())

    def _leave(self, task: Task) -> None:
        self._open[task.owner] -= 1
        self._statuses[task.status] -= 1
        if limited(task) and task.status in HOLDING:
            self._arrays[task.batch] -= 1
            if not self._arrays[task.batch]:
                del self._arrays[task.batch]
        self._leave_queue(task)

    def _leave_queue(self, task: Task) -> None:
        if not queued(task) or task.id in self._held_back:
            return
        key = shape(task)
        group = self._queue[key]
        at = bisect_left(group, rank(task))
        del group[at]
        if not group:
            del self._queue[key]


def queued(task: Task) -> bool:
    """Whether the scheduler may place it."""
    return task.status is Status.PENDING and task.wanted is Wanted.RUN


def limited(task: Task) -> bool:
    """Whether its array allows only so many at once."""
    return task.spec.array is not None and task.spec.array.most is not None


def rank(task: Task) -> tuple[int, int]:
    """Order in the queue: priority, then age."""
    return (-task.spec.priority, task.id)


def shape(task: Task) -> object:
    """What makes two waiting tasks interchangeable for placement."""
    spec = task.spec
    bound = task.node if spec.kind is Kind.VPS else None
    # the limit of its array stands before those of its own array alone
    array = task.batch if limited(task) else None
    return (task.owner, spec.priority, spec.request, spec.target, spec.backend, bound, array)
