"""What the inventory of a new session says of tasks beyond their reports: its word counts too.

1. A task that was given up and stands there is taken back. Without this, one whose reports were all acknowledged
   before it was declared lost would run on, counted nowhere and out of everybody's reach.
2. A task that was assigned in an earlier life of the node's journal, and that this life does not know, may have begun
   or not. It is given up rather than assigned again: an attempt starts once at most (contracts.md §1).
3. An attempt that stands there although its task was sent back to the queue is ended.
"""

from collections.abc import Mapping, Sequence

from kohakuriver.domain.attempts import attempt_or_none
from kohakuriver.domain.events import Accepted, DeclaredLost, Event, Paused, Started
from kohakuriver.domain.tasks import Status, Wanted
from kohakuriver.errors import InvalidTransition
from kohakuriver.host import cause
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member
from kohakuriver.store.reader import Reader
from kohakuriver.store.tasks import generations_of, lost_tasks, of_another_life
from kohakuriver.wire.link import PAGE, Held, Wish

#: what a phase of the inventory means; what has ended is told by the report of its end
MEANS: dict[str, Event] = {"accepted": Accepted(), "created": Accepted(), "running": Started(), "paused": Paused()}
FORGOT = "the node lost its journal before it said whether this began"


class Returned:
    """Sorts out what a node holds and does not hold, before it is told what is wanted."""

    def __init__(self, reader: Reader, ledger: Ledger) -> None:
        self._reader = reader
        self._ledger = ledger

    async def sort_out(self, member: Member, held: Sequence[Held]) -> list[Wish]:
        """Records it, and returns the wishes for what the host has gone on without. Raises MovedOn, StorageFull or
        StoreError; may be called again.
        """
        await self._take_back(member, held)
        await self._give_up(member, held)
        return await self._gone_on(held)

    async def _gone_on(self, held: Sequence[Held]) -> list[Wish]:
        alive = {entry.attempt: entry for entry in held if entry.phase in MEANS}
        read = {attempt: found for attempt in alive if (found := attempt_or_none(attempt)) is not None}
        away = [task for task, _ in read.values() if self._ledger.board.get(task) is None]
        later: dict[int, int] = {}
        for at in range(0, len(away), PAGE):
            later |= await generations_of(self._reader, away[at : at + PAGE])
        return [
            Wish(attempt=attempt, wanted=Wanted.KILLED.value, revision=alive[attempt].wish + 1, grace=0)
            for attempt, (task, generation) in read.items()
            if self._over(task, generation, later)
        ]

    def _over(self, task: int, generation: int, later: Mapping[int, int]) -> bool:
        """Whether a later attempt has begun, or is waited for."""
        known = self._ledger.board.get(task)
        if known is None:
            return later.get(task, 0) > generation
        return known.generation > generation or (known.generation == generation and known.status is Status.PENDING)

    async def _take_back(self, member: Member, held: Sequence[Held]) -> None:
        alive = {entry.attempt: MEANS[entry.phase] for entry in held if entry.phase in MEANS}
        read = filter(None, map(attempt_or_none, alive))
        away = [task for task, _ in read if self._ledger.board.get(task) is None]
        for at in range(0, len(away), PAGE):
            for task in await lost_tasks(self._reader, away[at : at + PAGE], node=member.id):
                if task.attempt in alive:
                    await self._record(member, task.id, alive[task.attempt])

    async def _give_up(self, member: Member, held: Sequence[Held]) -> None:
        there = {entry.attempt for entry in held}
        waiting = {
            task.attempt: task.id
            for task in self._ledger.board.on_node(member.id)
            if task.attempt not in there and task.status in {Status.ASSIGNED, Status.STOPPING} and task.started is None
        }
        attempts = list(waiting)
        for at in range(0, len(attempts), PAGE):
            for attempt in await of_another_life(self._reader, attempts[at : at + PAGE], epoch=member.epoch):
                await self._record(member, waiting[attempt], DeclaredLost(reason=FORGOT))

    async def _record(self, member: Member, task: int, event: Event) -> None:
        try:
            await self._ledger.record(task, event, cause.node(member.name))
        except InvalidTransition:
            # a report was faster
            return
