"""Waiting tasks in groups: those of one group ask for the same, so for placement only their first counts.

A plan walks over groups and takes from their beginnings; how many tasks stand behind is all the same to it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from kohakuriver.domain.tasks import Kind, Task


class Queue:
    """Tasks that wait for a place. Written by who owns it, read by plans."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._groups: dict[object, list[int]] = {}
        self._tasks: dict[int, Task] = {}
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """It waits from now on. Once only."""
        self._tasks[task.id] = task
        insort(self._groups.setdefault(group_of(task), []), task.id)

    def discard(self, task: int) -> None:
        """It does not wait any more, if it did."""
        known = self._tasks.pop(task, None)
        if known is None:
            return
        key = group_of(known)
        group = self._groups[key]
        del group[bisect_left(group, task)]
        if not group:
            del self._groups[key]

    def groups(self) -> Iterable[list[int]]:
        """The ids of each group, oldest first. Not to be changed, and good until the next change."""
        return self._groups.values()

    def group(self, task: Task) -> list[int]:
        """The group that the task is in, or would be."""
        return self._groups.get(group_of(task), [])

    def task(self, id: int) -> Task:
        return self._tasks[id]

    def find(self, id: int) -> Task | None:
        """The task, if it waits."""
        return self._tasks.get(id)

    def ahead(self, task: Task) -> int:
        """How many stand before this one."""
        count = 0
        for group in self._groups.values():
            priority = self._tasks[group[0]].spec.priority
            if priority > task.spec.priority:
                count += len(group)
            elif priority == task.spec.priority:
                count += bisect_left(group, task.id)
        return count

    def __iter__(self) -> Iterator[Task]:
        return iter(sorted(self._tasks.values(), key=rank))

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks


def rank(task: Task) -> tuple[int, int]:
    """Order in the queue: priority, then age."""
    return (-task.spec.priority, task.id)


def bound(task: Task) -> int | None:
    """The node that a VPS cannot leave, for its disk is there."""
    return task.node if task.spec.kind is Kind.VPS else None


def group_of(task: Task) -> object:
    """What makes two waiting tasks interchangeable for placement."""
    spec = task.spec
    array = task.batch if spec.array is not None and spec.array.most is not None else None
    # for backfill it matters how long it runs, and a retry may have to wait for a moment of its own
    lasts = None if spec.time_limit is None else spec.time_limit + spec.grace
    return (task.owner, spec.priority, *asks(task), lasts, array, task.ready)


def asks(task: Task) -> tuple[object, ...]:
    """What decides on which nodes it fits."""
    spec = task.spec
    return (spec.request, spec.target, spec.backend, spec.constraints, bound(task))
