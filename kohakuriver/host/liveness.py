"""Notices silence: tells who shows nodes, takes fenced tasks back after lease and margin, and gives up others only
where `lost_after` was set.
"""

import asyncio
import logging

from kohakuriver.domain.events import DeclaredLost, Event, RefusedForGood, Requeued
from kohakuriver.domain.lifecycle import requeues
from kohakuriver.domain.nodes import NodeStatus
from kohakuriver.domain.tasks import HOLDING, Status, Task
from kohakuriver.errors import Conflict, KohakuRiverError, NotFound
from kohakuriver.host.cause import Cause
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member, Roster

log = logging.getLogger(__name__)

TICK = 1.0
LOST_AFTER = Cause(actor="lost_after")
LEASE = Cause(actor="lease")


class Liveness:
    """Compares, once a second, what each node's silence means now with what it meant before."""

    def __init__(
        self, *, roster: Roster, ledger: Ledger, changes: Changes, clock: Clock, lost_after: int | None, margin: float
    ) -> None:
        """`margin`: seconds that a node has, beyond a lease, to end what it held."""
        self._roster = roster
        self._ledger = ledger
        self._changes = changes
        self._clock = clock
        self._lost_after = lost_after
        self._margin = margin
        self._began = clock.monotonic()
        self._shown: dict[int, NodeStatus] = {}

    async def run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK)

    async def tick(self) -> None:
        """One look at every node."""
        now = self._clock.monotonic()
        for member in self._roster.live():
            status = member.status(now)
            if self._shown.get(member.id) is not status:
                self._shown[member.id] = status
                self._changes.publish("node", member.id, status)
            if self._lost_after is not None and not member.connected and self._since(member) >= self._lost_after:
                await self._give_up(member)
        for member in self._roster.all():
            await self._take_back(member)

    def _since(self, member: Member) -> float:
        """Seconds of silence; one that this host never heard is silent since the host began."""
        now = self._clock.monotonic()
        silent = member.silent(now)
        return now - self._began if silent is None else silent

    async def _take_back(self, member: Member) -> None:
        """What a silent node has certainly ended by itself goes back to the queue (contracts.md §1, rule 12)."""
        for task in self._ledger.board.on_node(member.id):
            if task.status is Status.ASSIGNED and task.spec.lease is not None and _knows_no_leases(member):
                refused = RefusedForGood(reason=f"the runner of node {member.name} knows no leases; update it")
                if not await self._record(member, task, refused, LEASE):
                    return
                continue
            since = self._since(member)
            if task.spec.lease is None or since < task.spec.lease + self._margin or not requeues(task):
                continue
            reason = f"node {member.name} was silent for {since:.0f} s, its lease is {task.spec.lease} s"
            if not await self._record(member, task, Requeued(reason=reason), LEASE):
                return

    async def _give_up(self, member: Member) -> None:
        for task in self._ledger.board.on_node(member.id):
            if task.status not in HOLDING:
                continue
            reason = f"node {member.name} was silent for {self._lost_after} s"
            if not await self._record(member, task, DeclaredLost(reason=reason), LOST_AFTER):
                return

    async def _record(self, member: Member, task: Task, event: Event, by: Cause) -> bool:
        """False when the store cannot take it now."""
        try:
            await self._ledger.record(task.id, event, by)
        except (Conflict, NotFound):
            # it moved on meanwhile; the next look sees where it stands
            return True
        except KohakuRiverError as error:
            log.warning("%s failed: %s", by.actor, error, extra={"action": by.actor, "node": member.name})
            return False
        return True


def _knows_no_leases(member: Member) -> bool:
    """Whether it is connected, by a release that is never told of a fenced attempt."""
    return member.session is not None and member.session.live and not member.session.leases
