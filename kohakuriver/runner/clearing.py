"""What is kept of attempts that may be forgotten goes many at once: nobody waits for it, and a thread and a commit for
each would cost as much as half of a short task.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kohakuriver.errors import KohakuRiverError
from kohakuriver.runner.desk import Desk

#: what comes within this time goes together
GATHER_SECONDS = 0.05


class Clearing:
    """Deletes output, directories and rows."""

    def __init__(self, desk: Desk, group: asyncio.TaskGroup) -> None:
        self._desk = desk
        self._group = group
        self._waiting: dict[str, tuple[Sequence[Path], asyncio.Future[None]]] = {}

    async def clear(self, attempt: str, places: Sequence[Path]) -> None:
        """Returns when nothing is kept of the attempt any more; its body has been removed before.

        Raises StorageFull when the row could not be deleted. Cancelling it gives up the answer alone.
        """
        if not self._waiting:
            self._group.create_task(self._soon(), name="clearing")
        future = asyncio.get_running_loop().create_future()
        self._waiting[attempt] = places, future
        await future

    async def _soon(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        batch, self._waiting = self._waiting, {}
        error: KohakuRiverError | None = None
        await self._desk.output.remove({attempt: places for attempt, (places, _) in batch.items()})
        try:
            await self._desk.journal.remove(*batch)
        except KohakuRiverError as failed:
            error = failed
        for _, future in batch.values():
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
