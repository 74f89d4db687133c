"""Runs the plan: one pass when something changed, and one every two seconds in any case. Places through the ledger."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from kohakuriver.domain.limits import Held, Limits, Usage, held_of
from kohakuriver.domain.nodes import Node, Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.plans import Placement, Plan, told_of
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.resources import Reserved, total
from kohakuriver.domain.strategies import Strategy, pack
from kohakuriver.domain.tasks import HOLDING, Status, Task
from kohakuriver.errors import KohakuRiverError, MovedOn
from kohakuriver.host.board import Board, limited, queued
from kohakuriver.host.clock import Clock
from kohakuriver.host.ledger import Ledger, tried_again
from kohakuriver.host.roster import Member, Roster
from kohakuriver.host.time_left import TimeLeft
from kohakuriver.host.underway import Underway

log = logging.getLogger(__name__)

TIMER = 2.0
#: tasks that one pass places at most; another one follows at once
MOST_PLACED = 64
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

    def __init__(
        self,
        *,
        board: Board,
        roster: Roster,
        ledger: Ledger,
        clock: Clock,
        limits: Mapping[int, Limits],
        strategy: Strategy = pack,
    ) -> None:
        """`limits` by owner, of those who have any, as they are at any time."""
        self._board = board
        self._roster = roster
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        self.strategy = strategy
        self._wake = asyncio.Event()
        self._underway = Underway()
        self._turns: dict[int, int] = {}
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
        if before.status is Status.ASSIGNED and after.status is Status.PENDING and not tried_again(before, after):
            member = self._roster.get(before.node or 0)
            if member is not None:
                member.busy_until = self._clock.monotonic() + REFUSED_SECONDS
                member.busy_reason = "its runner refused work for now"
        if not queued(after):
            self._underway.drop([after.id])
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
        if not self._board.waiting:
            self.last_duration = 0.0
            return 0
        chosen = self._plan(self.snapshot(), self.usage())
        self.last_duration = self._clock.monotonic() - began
        by_node: dict[int, list[Placement]] = defaultdict(list)
        for placement in chosen:
            by_node[placement.node].append(placement)
        placed = await asyncio.gather(*(self._place(node, part) for node, part in by_node.items()))
        if len(chosen) >= MOST_PLACED:
            self.wake()
        return sum(placed)

    async def _place(self, node: int, placements: list[Placement]) -> int:
        member = self._roster.get(node)
        pairs = [(self._board.get(p.task), p.reserved) for p in placements]
        known = [(task, reserved) for task, reserved in pairs if task is not None and queued(task)]
        if member is None or not known:
            return 0
        self._decided(node, [task for task, _ in known])
        try:
            return len(await self._ledger.place(member, known))
        except MovedOn:
            self.wake()
        except KohakuRiverError as error:
            # the other nodes' share is placed all the same; the timer tries this one again
            log.warning("placing failed: %s", error, extra={"action": "schedule", "node": member.name})
        self.withdraw([task.id for task, _ in known])
        return 0

    def refill(self, member: Member, freed: Collection[int]) -> list[tuple[Task, Reserved]]:
        """What this node gets once these tasks hold nothing there any more, so that their end and what takes their
        place are one commit. Nothing where planning takes long: the next pass does it. What is not committed is to be
        withdrawn.
        """
        if not self._board.waiting or self.last_duration >= LONGEST_REFILL:
            return []
        snapshot = self.snapshot()
        held = tuple(held for task, held in self._board.reserved(member.id).items() if task not in freed)
        chosen = self._plan(replace(snapshot, reserved={**snapshot.reserved, member.id: held}), self.usage(freed))
        pairs = [(self._board.get(one.task), one.reserved) for one in chosen if one.node == member.id]
        known = [(task, reserved) for task, reserved in pairs if task is not None and queued(task)]
        self._decided(member.id, [task for task, _ in known])
        return known

    def withdraw(self, tasks: Collection[int]) -> None:
        """Their places came to nothing: they count against no limit any more, and wait on."""
        self._underway.drop(tasks)

    def _plan(self, snapshot: Snapshot, usage: Usage) -> Sequence[Placement]:
        return plan(snapshot, self._board.queue, usage, self.strategy, most=MOST_PLACED).placements

    def _decided(self, node: int, tasks: Sequence[Task]) -> None:
        if tasks:
            self._turns[node] = max(self._turns.values(), default=0) + 1
            self._underway.add(tasks, self._clock.monotonic())

    def usage(self, freed: Collection[int] = ()) -> Usage:
        """What is held at present of what is limited, with what is about to be and without what these tasks hold."""
        now = self._clock.monotonic()
        arrays = Counter(self._board.arrays())
        arrays.update(self._underway.arrays(now))
        more = self._underway.held(now)
        for task in filter(None, map(self._board.get, freed)):
            reserved = self._board.reserved(task.node or 0).get(task.id)
            if reserved is not None:
                more[task.owner] = more.get(task.owner, Held()).minus(held_of(reserved))
                arrays[task.batch] -= limited(task)
        return Usage(held=_Sums(self._board, more), limits=self._limits, arrays=arrays)

    def snapshot(self) -> Snapshot:
        """All nodes as placement sees them now."""
        now, at = self._clock.monotonic(), self._clock.now()
        members = self._roster.live()
        reserved = {member.id: tuple(self._board.reserved(member.id).values()) for member in members}
        return Snapshot(
            nodes=tuple(_as_held(member.snapshot(now), reserved[member.id]) for member in members),
            reserved=reserved,
            at=at,
            ends=TimeLeft(self._board, at),
            turns=self._turns,
        )

    def full(self) -> Plan:
        """The plan of the whole queue, at most a second old, new where that is cheap, for those who ask why."""
        began = self._clock.monotonic()
        if self._full is None or began >= self._full_until:
            told = _Told(self._board, self.blocked())
            self._full = plan(self.snapshot(), self._board.queue, self.usage(), self.strategy, told=told)
            now = self._clock.monotonic()
            self._full_until = now + min(REASONS_SECONDS, REASONS_SPARE * (now - began))
        return self._full

    def reasons(self) -> Counter[str]:
        """How many tasks wait for which reason."""
        return Counter(self.full().tally())


def _as_held(node: Node, reserved: Sequence[Reserved]) -> Node:
    """The node; one that holds more than it has, for something lost came back, takes no new work (contracts.md §6)."""
    if not node.known or node.inventory.amount.fits(total(held.amount for held in reserved)):
        return node
    return replace(node, full=True, full_reason="it holds more than it has")


class _Sums(Mapping[int, Held]):
    """What owners hold, with what is being placed for them."""

    def __init__(self, board: Board, more: Mapping[int, Held]) -> None:
        self._board = board
        self._more = more

    def __getitem__(self, owner: int) -> Held:
        held, more = self._board.held_by(owner), self._more.get(owner)
        return held if more is None else held.plus(more)

    def __iter__(self) -> Iterator[int]:
        return iter(self._more)

    def __len__(self) -> int:
        return len(self._more)


class _Told(Mapping[int, Reason]):
    """Why those wait that are not in the queue."""

    def __init__(self, board: Board, blocked: Mapping[int, Reason]) -> None:
        self._board = board
        self._blocked = blocked

    def __getitem__(self, task: int) -> Reason:
        known = self._board.get(task)
        reason = None if known is None else told_of(known, self._blocked)
        if reason is None:
            raise KeyError(task)
        return reason

    def __iter__(self) -> Iterator[int]:
        return (task.id for task in self._board.all() if told_of(task, self._blocked) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
