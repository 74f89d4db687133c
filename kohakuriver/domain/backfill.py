"""Room kept for the first tasks that wait: a later one may pass only where it does not move their start.

The start of a task that waits is the earliest by the time limits of what runs; what runs without one is taken to run
for ever. So a later task passes if its own time limit ends it before that start, or if it takes only what the waiting
one does not need. Where the start is unknown, because something without a time limit must end first, a task with a
time limit passes, and one without takes only what is of no use to the one that waits.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from kohakuriver.domain.needs import Need
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.shapes import Shape
from kohakuriver.domain.tasks import Task, TaskSpec
from kohakuriver.domain.timeline import Timeline, ending, first_fit

#: kinds of waiting tasks for whose first one room is kept in a plan; those behind may be passed
HEADS: Final = 8


def lasts(spec: TaskSpec) -> float:
    """Seconds that it holds its place at most, once it runs; infinite without a time limit."""
    return inf if spec.time_limit is None else float(spec.time_limit + spec.grace)


class Backfill:
    """The rooms' future in one plan. Nothing of it is reckoned before somebody could pass."""

    def __init__(self, ends: Mapping[int, float], most: int = HEADS) -> None:
        self._ends = ends
        self._new: dict[int, float] = {}
        self._left = most
        self._waiting: list[tuple[Shape, Task]] = []
        #: by order of the room; only those in which something is kept
        self._kept: dict[int, Timeline] = {}
        #: for whom something is kept there, by order of the room
        self._for: dict[int, int] = {}
        self._starts: dict[int, float] = {}

    def block(self, shape: Shape, task: Task) -> None:
        """It waits, and what comes after it is not to move its start."""
        self._waiting.append((shape, task))

    def fitting(self, rooms: Iterable[Room], need: Need, spec: TaskSpec) -> list[Room]:
        """Those of the rooms in which it fits now that it may take without moving the start of one before it."""
        self._settle()
        return [room for room in rooms if self._allows(room, need, lasts(spec))]

    def take(self, room: Room, need: Need, task: Task) -> Reserved:
        """Reserves a room that `fitting` offered."""
        until = self._new[task.id] = lasts(task.spec)
        timeline = self._kept.get(room.order)
        if timeline is None:
            return room.take(need, task.id, task.generation + 1)
        reserved = timeline.during(0, until).choose(need, task.id, task.generation + 1)
        timeline.add(reserved, 0, until)
        return reserved

    def starts(self) -> Mapping[int, float]:
        """Seconds after which those for whom room is kept start at the latest, as far as that is known."""
        self._settle()
        return self._starts

    def start(self, shape: Shape, task: Task) -> float:
        """Seconds after which it can start at the latest by what is known; infinite when that is not known."""
        self._settle()
        return self._earliest(shape, lasts(task.spec))[0]

    def kept_for(self, room: Room) -> int | None:
        """The task that room is kept for there."""
        return self._for.get(room.order)

    def _allows(self, room: Room, need: Need, until: float) -> bool:
        timeline = self._kept.get(room.order)
        return timeline is None or timeline.during(0, until).fits(need)

    def _settle(self) -> None:
        for shape, task in self._waiting:
            if self._left:
                self._keep(shape, task)
        self._waiting.clear()

    def _keep(self, shape: Shape, task: Task) -> None:
        until = lasts(task.spec)
        start, room = self._earliest(shape, until)
        if room is None:
            room = self._nearest(shape)
            if room is None:
                return
            self._timeline(room).hold_back(shape.need)
        else:
            self._timeline(room).book(shape.need, task.id, start, until)
            self._starts[task.id] = start
        self._for.setdefault(room.order, task.id)
        self._left -= 1

    def _earliest(self, shape: Shape, until: float) -> tuple[float, Room | None]:
        """The room in which it can start first. Only rooms where something is kept are looked at moment by moment."""
        best, found = inf, None
        for room in shape.able:
            timeline = self._kept.get(room.order)
            if timeline is not None:
                start = timeline.earliest(shape.need, until)
            elif room.fits(shape.need):
                start = 0.0
            else:
                start = first_fit(room, self._end, shape.need, best)
            if start < best:
                best, found = start, room
        return best, found

    def _nearest(self, shape: Shape) -> Room | None:
        """Where least must end that has no time limit, among those that have enough when they are empty."""
        need = shape.need
        able = [room for room in shape.able if Room(room.node, (), room.order).fits(need)]
        return max(able, key=lambda room: (need.share(self._known(room).free_for(need)), -room.order), default=None)

    def _known(self, room: Room) -> Room:
        """What is free there once everybody with a time limit has ended."""
        timeline = self._kept.get(room.order)
        if timeline is not None:
            return timeline.rooms[-1]
        later = room.copy()
        for _, held in ending(room, self._end):
            later.give_back(held)
        return later

    def _timeline(self, room: Room) -> Timeline:
        timeline = self._kept.get(room.order)
        if timeline is None:
            timeline = self._kept[room.order] = Timeline(room, self._end)
        return timeline

    def _end(self, task: int) -> float:
        found = self._new.get(task)
        return self._ends.get(task, inf) if found is None else found
