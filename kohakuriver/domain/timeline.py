"""What will be free on one node as time goes by, as far as time limits tell. Seconds from the moment of the plan.

A task without a time limit has no end that anybody knows: here it runs for ever.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from kohakuriver.domain.needs import Need
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.rooms import Room

#: seconds after which something that is overdue is taken to end
SOON: Final = 1.0


def ending(room: Room, end: Callable[[int], float]) -> list[tuple[float, Reserved]]:
    """Who leaves the room when, the first first, without those of whom nobody knows."""
    # one that should have ended already may do so at any moment now, which is no moment of this plan
    known = [(max(SOON, at), held) for held in room.held if (at := end(held.task)) < inf]
    return sorted(known, key=lambda pair: pair[0])


def first_fit(room: Room, end: Callable[[int], float], need: Need, before: float) -> float:
    """The moment from which the need fits there for good, where nothing is kept; infinite if that is not `before`."""
    later = room.copy()
    leaving = ending(room, end)
    for place, (at, held) in enumerate(leaving):
        if at >= before:
            break
        later.give_back(held)
        last = place + 1 == len(leaving) or leaving[place + 1][0] > at
        if last and later.fits(need):
            return at
    return inf


class Timeline:
    """Moments of one node. The first is the plan's own room, which is now; `starts[i]` is when `rooms[i]` begins."""

    def __init__(self, room: Room, end: Callable[[int], float]) -> None:
        """`end` says when a task has ended at the latest; infinite where nobody knows."""
        self.starts: list[float] = [0.0]
        self.rooms: list[Room] = [room]
        #: what may be used by work without a known end besides what is free at every moment; None: anything
        self.floor: Room | None = None
        latest = room
        for at, held in ending(room, end):
            if at > self.starts[-1]:
                latest = latest.copy()
                self.starts.append(at)
                self.rooms.append(latest)
            latest.give_back(held)

    def earliest(self, need: Need, lasts: float) -> float:
        """The first moment from which the need is met for as long as it lasts; infinite when none is known."""
        at = 0
        while at < len(self.rooms):
            until = self.starts[at] + lasts
            lacking = next(
                (
                    place
                    for place in range(at, len(self.rooms))
                    if self.starts[place] < until and not self.rooms[place].fits(need)
                ),
                None,
            )
            if lacking is None:
                if self.during(at, until).fits(need):
                    return self.starts[at]
                lacking = at
            at = lacking + 1
        return inf

    def during(self, at: int, until: float) -> Room:
        """What is free at every moment from the one numbered `at` on."""
        room = self.rooms[at].copy()
        for place in range(at + 1, len(self.rooms)):
            if self.starts[place] >= until:
                break
            room.meet(self.rooms[place])
        if until == inf and self.floor is not None:
            room.meet(self.floor)
        return room

    def book(self, need: Need, task: int, start: float, lasts: float) -> None:
        """Keeps the need from `start` on, a moment that `earliest` found."""
        at = self.starts.index(start)
        until = start + lasts
        self.add(self.during(at, until).choose(need, task, 0), at, until)

    def add(self, reserved: Reserved, at: int, until: float) -> None:
        """It is held from the moment numbered `at` until it ends."""
        self._cut(until)
        for place in range(at, len(self.rooms)):
            if self.starts[place] >= until:
                break
            self.rooms[place].subtract(reserved)
        if until == inf and self.floor is not None:
            self.floor.subtract(reserved)

    def hold_back(self, need: Need) -> None:
        """Work without a known end may from now on use only what this need could make no use of."""
        if self.floor is None:
            self.floor = self.rooms[0].copy()
        self.floor.claim(need)

    def _cut(self, at: float) -> None:
        """A moment begins there."""
        if at == inf or at in self.starts:
            return
        place = next((place for place, start in enumerate(self.starts) if start > at), len(self.starts))
        self.starts.insert(place, at)
        self.rooms.insert(place, self.rooms[place - 1].copy())
