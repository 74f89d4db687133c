"""Tasks that were given up and stand at their node after all: its inventory is its word, as a report is.

Without this, one whose reports were all acknowledged before it was declared lost would run on, counted nowhere and out
of everybody's reach.
"""

from collections.abc import Sequence

from kohakuriver.domain.events import Accepted, Event, Paused, Started
from kohakuriver.domain.tasks import parse_attempt
from kohakuriver.errors import Conflict
from kohakuriver.host import cause
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member
from kohakuriver.store.reader import Reader
from kohakuriver.store.tasks import lost_tasks
from kohakuriver.wire.link import PAGE, Held

#: what a phase of the inventory means; what has ended is told by the report of its end
MEANS: dict[str, Event] = {"accepted": Accepted(), "created": Accepted(), "running": Started(), "paused": Paused()}


class Returned:
    """Takes back what a node still holds, at the beginning of its session."""

    def __init__(self, reader: Reader, ledger: Ledger) -> None:
        self._reader = reader
        self._ledger = ledger

    async def take_back(self, member: Member, held: Sequence[Held]) -> None:
        """Records what stands there of tasks declared lost. Raises StorageFull or StoreError; may be called again."""
        alive = {entry.attempt: MEANS[entry.phase] for entry in held if entry.phase in MEANS}
        away = [task for task in map(_task, alive) if task is not None and self._ledger.board.get(task) is None]
        for at in range(0, len(away), PAGE):
            for task in await lost_tasks(self._reader, away[at : at + PAGE], node=member.id):
                event = alive.get(task.attempt)
                if event is None:
                    continue
                try:
                    await self._ledger.record(task.id, event, cause.node(member.name))
                except Conflict:
                    # a report was faster
                    continue


def _task(attempt: str) -> int | None:
    try:
        return parse_attempt(attempt)[0]
    except ValueError:
        return None
