"""Tasks whose environment is still being made, or was lost: held back on the board, let go, or ended with the cause.

In memory, derived from the rows at every start.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from kohakuriver.domain.events import Unobtainable
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.tasks import Task
from kohakuriver.errors import InvalidTransition, KohakuRiverError, NotFound
from kohakuriver.host.board import Board
from kohakuriver.host.cause import Cause
from kohakuriver.host.environments.catalog import Catalog
from kohakuriver.host.ledger import Ledger

log = logging.getLogger(__name__)

BY = Cause(actor="environments")
#: who holds back on the board
HOLDER = "environments"
AGAIN = 1.0


class Waiting:
    """Who waits for which version, by its full name."""

    def __init__(self, board: Board, ledger: Ledger, catalog: Catalog, woken: Callable[[], None]) -> None:
        self._board = board
        self._ledger = ledger
        self._catalog = catalog
        self._woken = woken
        self._waiters: dict[str, set[int]] = {}
        self._doomed: dict[int, str] = {}
        self._wake = asyncio.Event()
        #: how far the making of a version is, in words
        self.progress: Callable[[str], str] = str

    def expect(self, tasks: Iterable[Task]) -> None:
        """These tasks wait, if their version is not there yet; from before they are committed on."""
        for task in tasks:
            name = task.spec.container
            if name is None or self._catalog.get(name) is not None:
                continue
            self._waiters.setdefault(name, set()).add(task.id)
            self._board.hold(task.id, HOLDER)

    def drop(self, tasks: Iterable[Task]) -> None:
        """They were not stored after all, or have ended."""
        for task in tasks:
            waiters = self._waiters.get(task.spec.container or "")
            if waiters is not None:
                waiters.discard(task.id)
                if not waiters:
                    del self._waiters[task.spec.container or ""]
            self._doomed.pop(task.id, None)
            self._board.release(task.id, HOLDER)

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change of a task."""
        if after.final and not before.final:
            self.drop([after])

    def names(self) -> list[str]:
        """The versions that somebody waits for."""
        return sorted(self._waiters)

    def there(self, name: str) -> None:
        """The version is there: who waits for it may start."""
        for task in self._waiters.pop(name, ()):
            self._board.release(task, HOLDER)
        self._woken()

    def doom(self, name: str, reason: str) -> None:
        """The version will not come: who waits for it is ended, beside."""
        for task in self._waiters.get(name, ()):
            self._doomed.setdefault(task, reason)
        self._wake.set()

    def reasons(self) -> Mapping[int, Reason]:
        """What each of them waits for, in words."""
        found = {}
        for name, tasks in self._waiters.items():
            reason = Reason(code="environment", text=self.progress(name))
            found.update(dict.fromkeys(tasks, reason))
        return found

    async def run(self) -> None:
        """Ends what waits in vain, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self.tick():
                await asyncio.sleep(AGAIN)
                self._wake.set()

    async def tick(self) -> bool:
        """Ends what waits in vain now; False when the store could not take all of it."""
        fine = True
        for task, reason in list(self._doomed.items()):
            fine = await self._end(task, reason) and fine
        return fine

    async def _end(self, task: int, reason: str) -> bool:
        try:
            await self._ledger.record(task, Unobtainable(reason=reason), BY)
        except NotFound:
            # it is being stored just now, unless who stores it has dropped it
            return task not in self._doomed
        except InvalidTransition:
            # it was ended otherwise
            self._doomed.pop(task, None)
        except KohakuRiverError as error:
            log.warning("ending a task without an environment failed: %s", error, extra={"action": "environment"})
            return False
        return True
