"""The open tasks and what they hold, in memory, as last committed. Written by `ledger.py` and `submit.py` alone.

The store is the truth; this is its open part, so that scheduling, dispatch and answers need no query.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from kohakuriver.domain.limits import Held, held_of
from kohakuriver.domain.queue import Queue
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import FINAL, HOLDING, Status, Task, Wanted


class Board:
    """Open tasks by id, queue and node. Nothing here waits or fails."""

    def __init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        self._reserved: dict[int, dict[int, Reserved]] = {}
        #: what the scheduler may place
        self.queue = Queue()
        self._held: dict[int, Held] = {}
        self._open: Counter[int] = Counter()
        self._statuses: Counter[str] = Counter()
        self._arrays: Counter[int] = Counter()
        #: tasks that are not in the queue although they could be placed, and who keeps them out of it
        self._held_back: dict[int, set[str]] = {}

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

    def held_by(self, owner: int) -> Held:
        """What the attempts of an owner hold."""
        return self._held.get(owner, Held())

    def arrays(self) -> Mapping[int, int]:
        """How many tasks hold a place of each array that allows only so many at once, by batch."""
        return self._arrays

    def statuses(self) -> Mapping[str, int]:
        """How many open tasks there are of each status."""
        return {status: count for status, count in self._statuses.items() if count}

    @property
    def waiting(self) -> int:
        """Length of the queue."""
        return len(self.queue)

    def put(self, task: Task, reserved: Reserved | None = None) -> None:
        """The task as it stands now. A reservation goes with the end, and stays when none is given otherwise."""
        before = self._tasks.pop(task.id, None)
        if before is not None:
            self._leave(before)
        if task.status in HOLDING and task.node is not None:
            if reserved is not None:
                self._free(task, task.node)
                self._reserved.setdefault(task.node, {})[task.id] = reserved
                self._held[task.owner] = self.held_by(task.owner).plus(held_of(reserved))
        elif before is not None and before.node is not None:
            self._free(before, before.node)
        if task.status in FINAL:
            return
        self._tasks[task.id] = task
        self._open[task.owner] += 1
        self._statuses[task.status] += 1
        if limited(task) and task.status in HOLDING:
            self._arrays[task.batch] += 1
        if queued(task) and task.id not in self._held_back:
            self.queue.add(task)

    def _free(self, task: Task, node: int) -> None:
        reserved = self._reserved.get(node, {}).pop(task.id, None)
        if reserved is not None:
            held = self._held[task.owner] = self.held_by(task.owner).minus(held_of(reserved))
            if held == Held():
                del self._held[task.owner]

    def hold(self, task: int, by: str = "dependencies") -> None:
        """Keeps the task out of the queue until all who hold it let it go. May be called before the task is put here,
        and twice.
        """
        self.queue.discard(task)
        self._held_back.setdefault(task, set()).add(by)

    def release(self, task: int, by: str = "dependencies") -> None:
        """Lets the task into the queue, unless others hold it. May be called for one that was not held."""
        holders = self._held_back.get(task)
        if holders is None:
            return
        holders.discard(by)
        if holders:
            return
        del self._held_back[task]
        known = self._tasks.get(task)
        if known is not None and queued(known):
            self.queue.add(known)

    def _leave(self, task: Task) -> None:
        self._open[task.owner] -= 1
        self._statuses[task.status] -= 1
        if limited(task) and task.status in HOLDING:
            self._arrays[task.batch] -= 1
            if not self._arrays[task.batch]:
                del self._arrays[task.batch]
        self.queue.discard(task.id)


def queued(task: Task) -> bool:
    """Whether the scheduler may place it."""
    return task.status is Status.PENDING and task.wanted is Wanted.RUN


def limited(task: Task) -> bool:
    """Whether its array allows only so many at once."""
    return task.spec.array is not None and task.spec.array.most is not None
