"""Runs the plan: one pass when something changed, and one every two seconds in any case. Places through the ledger."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from kohakuriver.domain.limits import Usage
from kohakuriver.domain.nodes import Node, Snapshot
from kohakuriver.domain.placement import Placement, Plan, plan
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.resources import Reserved, total
from kohakuriver.domain.tasks import HOLDING, Status, Task
from kohakuriver.errors import KohakuRiverError, MovedOn
from kohakuriver.host.board import Board, limited, queued
from kohakuriver.host.clock import Clock
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member, Roster

log = logging.getLogger(__name__)

TIMER = 2.0
#: tasks of one kind that a pass looks at; the rest of that kind would have to wait behind them anyway
HEADS = 64
#: passes leave this many times their own duration to everybody else
SPARE = 3.0
LONGEST_PAUSE = 0.25
#: seconds of the last pass beyond which an ended task's place is left to the next
LONGEST_REFILL = 0.002
#: the reasons of the whole queue are good for so many times what it took to find them, and for a second at most
REASONS_SPARE = 20.0
REASONS_SECONDS = 1.0
#: seconds for which a node that refused for now gets no work
REFUSED_SECONDS = 1.0


class Scheduler:
    """Decides who starts where. `passes` and `last_pass` (monotonic) show that it lives."""

    def __init__(self, *, board: Board, roster: Roster, ledger: Ledger, clock: Clock) -> None:
        self._board = board
        self._roster = roster
        self._ledger = ledger
        self._clock = clock
        self._wake = asyncio.Event()
        #: what is not in the queue although it waits, with the reasons; told by who holds it back
        self.blocked: Callable[[], Mapping[int, Reason]] = dict
        self._full: Plan | None = None
        self._full_until = 0.0
        self.passes = 0
        self.last_pass = clock.monotonic()
        self.last_duration = 0.0

    def wake(self) -> None:
        """Something changed that may let a task start. Cheap; many calls make one pass."""
        self._wake.set()

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change of a task."""
        if before.status is Status.ASSIGNED and after.status is Status.PENDING:
            member = self._roster.get(before.node or 0)
            if member is not None:
                member.busy_until = self._clock.monotonic() + REFUSED_SECONDS
                member.busy_reason = "its runner refused work for now"
        if queued(after) or (before.status in HOLDING and after.status not in HOLDING):
            self.wake()

    async def run(self) -> None:
        """Passes until cancelled."""
        while True:
            try:
                async with asyncio.timeout(TIMER):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.tick()
            await asyncio.sleep(min(LONGEST_PAUSE, SPARE * self.last_duration))

    async def tick(self) -> int:
        """One pass; how many tasks it placed. What the store refuses is logged and tried again by a later pass."""
        began = self._clock.monotonic()
        self.passes += 1
        self.last_pass = began
        heads = self._board.heads(HEADS)
        if not heads:
            self.last_duration = 0.0
            return 0
        chosen = plan(self.snapshot(), heads, self.usage()).placements
        self.last_duration = self._clock.monotonic() - began
        by_node: dict[int, list[Placement]] = defaultdict(list)
        for placement in chosen:
            by_node[placement.node].append(placement)
        placed = await asyncio.gather(*(self._place(node, part) for node, part in by_node.items()))
        if len(chosen) >= HEADS:
            self.wake()
        return sum(placed)

    async def _place(self, node: int, placements: list[Placement]) -> int:
        member = self._roster.get(node)
        pairs = [(self._board.get(p.task), p.reserved) for p in placements]
        known = [(task, reserved) for task, reserved in pairs if task is not None and queued(task)]
        if member is None or not known:
            return 0
        try:
            return len(await self._ledger.place(member, known))
        except MovedOn:
            self.wake()
        except KohakuRiverError as error:
            # the other nodes' share is placed all the same; the timer tries this one again
            log.warning("placing failed: %s", error, extra={"action": "schedule", "node": member.name})
        return 0

    def refill(self, member: Member, freed: Collection[int]) -> list[tuple[Task, Reserved]]:
        """What this node gets once these tasks hold nothing there any more, so that their end and what takes their
        place are one commit. Nothing where planning takes long: the next pass does it.
        """
        heads = self._board.heads(HEADS) if self.last_duration < LONGEST_REFILL else []
        # a pass may be placing more of an array meanwhile, and only passes come one after the other
        heads = [task for task in heads if not limited(task)]
        if not heads:
            return []
        snapshot = self.snapshot()
        held = tuple(held for task, held in self._board.reserved(member.id).items() if task not in freed)
        chosen = plan(
            replace(snapshot, reserved={**snapshot.reserved, member.id: held}), heads, self.usage()
        ).placements
        pairs = [(self._board.get(one.task), one.reserved) for one in chosen if one.node == member.id]
        return [(task, reserved) for task, reserved in pairs if task is not None and queued(task)]

    def usage(self, *, blocked: bool = False) -> Usage:
        """What is held at present of what is limited; with `blocked`, what waits for others too, which no pass sees."""
        return Usage(arrays=self._board.arrays(), blocked=self.blocked() if blocked else {})

    def snapshot(self) -> Snapshot:
        """All nodes as placement sees them now."""
        now = self._clock.monotonic()
        members = self._roster.live()
        reserved = {member.id: tuple(self._board.reserved(member.id).values()) for member in members}
        return Snapshot(
            nodes=tuple(_as_held(member.snapshot(now), reserved[member.id]) for member in members),
            reserved=reserved,
        )

    def full(self) -> Plan:
        """The plan of the whole queue, at most a second old, new where that is cheap, for those who ask why."""
        began = self._clock.monotonic()
        if self._full is None or began >= self._full_until:
            waiting = (task for task in self._board.all() if task.status in {Status.PENDING, Status.PENDING_APPROVAL})
            self._full = plan(self.snapshot(), waiting, self.usage(blocked=True))
            now = self._clock.monotonic()
            self._full_until = now + min(REASONS_SECONDS, REASONS_SPARE * (now - began))
        return self._full

    def reasons(self) -> Counter[str]:
        """How many tasks wait for which reason."""
        return Counter(reason.code for reason in self.full().reasons.values())


def _as_held(node: Node, reserved: Sequence[Reserved]) -> Node:
    """The node; one that holds more than it has, for something lost came back, takes no new work (contracts.md §6)."""
    if not node.known or node.inventory.amount.fits(total(held.amount for held in reserved)):
        return node
    return replace(node, full=True, full_reason="it holds more than it has")
