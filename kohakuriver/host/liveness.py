"""Notices silence: tells who shows nodes, and gives up tasks only where `lost_after` was set."""

import asyncio
import logging

from kohakuriver.domain.events import DeclaredLost
from kohakuriver.domain.nodes import NodeStatus
from kohakuriver.domain.tasks import HOLDING
from kohakuriver.errors import Conflict, KohakuRiverError, NotFound
from kohakuriver.host.cause import Cause
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member, Roster

log = logging.getLogger(__name__)

TICK = 1.0
LOST_AFTER = Cause(actor="lost_after")


class Liveness:
    """Compares, once a second, what each node's silence means now with what it meant before."""

    def __init__(
        self, *, roster: Roster, ledger: Ledger, changes: Changes, clock: Clock, lost_after: int | None
    ) -> None:
        self._roster = roster
        self._ledger = ledger
        self._changes = changes
        self._clock = clock
        self._lost_after = lost_after
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
            silent = member.silent(now)
            since = now - self._began if silent is None else silent
            if self._lost_after is not None and not member.connected and since >= self._lost_after:
                await self._give_up(member)

    async def _give_up(self, member: Member) -> None:
        for task in self._ledger.board.on_node(member.id):
            if task.status not in HOLDING:
                continue
            reason = f"node {member.name} was silent for {self._lost_after} s"
            try:
                await self._ledger.record(task.id, DeclaredLost(reason=reason), LOST_AFTER)
            except (Conflict, NotFound):
                # it moved on meanwhile; the next look sees where it stands
                continue
            except KohakuRiverError as error:
                log.warning("giving up tasks failed: %s", error, extra={"action": "lost_after", "node": member.name})
                return
