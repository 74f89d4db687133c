"""Tasks that are to start after others. In memory, derived from the rows at every start; each end of a task is looked
up by its id, never in the queue.

A task that waits is held back on the board. What it waits for ended well: it is let go. It ended otherwise and had to
end well: the waiting task is ended with that reason.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kohakuriver.domain.dependencies import After, Key, never
from kohakuriver.domain.events import NeverSatisfied
from kohakuriver.domain.reasons import Reason, waits_for
from kohakuriver.domain.tasks import FINAL, Status, Task
from kohakuriver.errors import InvalidTransition, KohakuRiverError, MovedOn, NotFound
from kohakuriver.host.board import Board
from kohakuriver.host.cause import Cause
from kohakuriver.host.ledger import TRIES, Ledger
from kohakuriver.store.reader import Reader
from kohakuriver.store.tasks import batch_statuses, statuses_of

log = logging.getLogger(__name__)

BY = Cause(actor="dependencies")
WAITING = frozenset({Status.PENDING, Status.PENDING_APPROVAL})
AGAIN = 1.0
#: ends that wait for the store at the same time
AT_ONCE = 256


@dataclass(kw_only=True)
class Watched:
    """One thing that is waited for: which of its tasks have not ended, and the first that ended badly."""

    total: int
    still: set[int]
    bad: tuple[int, Status] | None = None
    #: who waits, and whether any end will do
    waiters: dict[int, bool] = field(default_factory=dict)


def waiting_for(states: Mapping[Key, Watched]) -> Reason | None:
    """What tasks that are to start after these wait for; None when all have ended."""
    still = {task for state in states.values() for task in state.still}
    return waits_for(sum(state.total for state in states.values()), still) if still else None


class Dependencies:
    """Holds back, lets go, ends."""

    def __init__(self, reader: Reader, board: Board, ledger: Ledger, woken: Callable[[], None]) -> None:
        self._reader = reader
        self._board = board
        self._ledger = ledger
        self._woken = woken
        self._watched: dict[Key, Watched] = {}
        self._keys: dict[int, set[Key]] = {}
        self._needs: dict[int, set[Key]] = {}
        self._totals: dict[int, int] = {}
        self._doomed: dict[int, str] = {}
        self._wake = asyncio.Event()

    async def look(self, needs: Collection[After]) -> dict[Key, Watched]:
        """How the things stand now. Whoever goes on without waiting in between may rely on it. Raises MovedOn."""
        keys = {after.key for after in needs}
        for _ in range(TRIES):
            found = await self._states(keys)
            if all(self._board.get(task) is not None for state in found.values() for task in state.still):
                return found
        raise MovedOn("the tasks that it is to start after keep changing; try again", field="after")

    def expect(self, tasks: Sequence[Task], states: Mapping[Key, Watched]) -> None:
        """These tasks wait, from before they are committed on; `states` was looked up just now."""
        for task in tasks:
            if not task.spec.after:
                continue
            needs = {after.key: after.always for after in task.spec.after}
            still = {key for key in needs if states[key].still}
            self._totals[task.id] = sum(states[key].total for key in needs)
            for key in still:
                self._watch(key, states[key]).waiters[task.id] = needs[key]
            bad = [key for key in needs if states[key].bad is not None and not needs[key]]
            if still or bad:
                self._needs[task.id] = still
                self._board.hold(task.id)
            for key in bad:
                self._doom(task.id, key, states[key])

    def drop(self, tasks: Iterable[Task]) -> None:
        """They were not stored after all, or have ended."""
        for task in tasks:
            for key in self._needs.pop(task.id, ()):
                watched = self._watched[key]
                watched.waiters.pop(task.id, None)
                if not watched.waiters:
                    self._unwatch(key)
            self._totals.pop(task.id, None)
            self._doomed.pop(task.id, None)
            self._board.release(task.id)

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change of a task."""
        if not after.final or before.final:
            return
        if after.id in self._needs:
            self.drop([after])
        for key in self._keys.pop(after.id, ()):
            self._ended(key, after)

    def reasons(self) -> Mapping[int, Reason]:
        """What each waiting task waits for, in words and numbers."""
        worded: dict[tuple[frozenset[Key], int], Reason] = {}
        found = {}
        for task, needs in self._needs.items():
            key = (frozenset(needs), self._totals[task])
            if key not in worded:
                still = {one for need in needs for one in self._watched[need].still}
                worded[key] = waits_for(self._totals[task], still) if still else _ENDING
            found[task] = worded[key]
        return found

    async def open(self) -> None:
        """Derives everything from the tasks on the board; once, before the first pass of the scheduler.

        What was placed before has waited enough.
        """
        waiting = [
            task for task in self._board.all() if task.spec.after and task.status in WAITING and not task.generation
        ]
        self.expect(waiting, await self.look([after for task in waiting for after in task.spec.after]))

    async def run(self) -> None:
        """Ends what waits in vain, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self.tick():
                await asyncio.sleep(AGAIN)
                self._wake.set()

    async def tick(self) -> bool:
        """Ends what waits in vain now; False when the store could not take it and it is to be tried again."""
        doomed = list(self._doomed.items())
        for at in range(0, len(doomed), AT_ONCE):
            part = doomed[at : at + AT_ONCE]
            if not all(await asyncio.gather(*(self._end(task, reason) for task, reason in part))):
                return False
        return True

    async def _end(self, task: int, reason: str) -> bool:
        try:
            await self._ledger.record(task, NeverSatisfied(reason=reason), BY)
        except (InvalidTransition, NotFound):
            # it was ended otherwise, or never stored
            self._doomed.pop(task, None)
        except KohakuRiverError as error:
            log.warning("ending a task that waits in vain failed: %s", error, extra={"action": "after"})
            return False
        return True

    async def _states(self, keys: Collection[Key]) -> dict[Key, Watched]:
        single = await statuses_of(self._reader, sorted({key.id for key in keys if not key.batch}))
        states = {}
        for key in keys:
            if key.batch:
                rows = await batch_statuses(self._reader, key.id)
            else:
                rows = [(key.id, single[key.id])] if key.id in single else []
            still = {task for task, status in rows if status not in FINAL}
            bad = next(((task, s) for task, s in rows if s in FINAL and s is not Status.COMPLETED), None)
            states[key] = Watched(total=len(rows), still=still, bad=bad)
        return states

    def _watch(self, key: Key, state: Watched) -> Watched:
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(total=state.total, still=set(state.still), bad=state.bad)
            for task in watched.still:
                self._keys.setdefault(task, set()).add(key)
        return watched

    def _unwatch(self, key: Key) -> None:
        for task in self._watched.pop(key).still:
            keys = self._keys.get(task, set())
            keys.discard(key)
            if not keys:
                self._keys.pop(task, None)

    def _ended(self, key: Key, task: Task) -> None:
        watched = self._watched[key]
        watched.still.discard(task.id)
        if task.status is not Status.COMPLETED and watched.bad is None:
            watched.bad = (task.id, task.status)
            for waiter, always in watched.waiters.items():
                if not always:
                    self._doom(waiter, key, watched)
        if watched.still:
            return
        del self._watched[key]
        for waiter in watched.waiters:
            needs = self._needs[waiter]
            needs.discard(key)
            if not needs and waiter not in self._doomed:
                del self._needs[waiter]
                self._totals.pop(waiter, None)
                self._board.release(waiter)
        self._woken()

    def _doom(self, waiter: int, key: Key, watched: Watched) -> None:
        assert watched.bad is not None
        task, status = watched.bad
        self._doomed.setdefault(waiter, never(task, status.value, key))
        self._wake.set()


_ENDING = Reason(code="dependency", text="what it was to start after has not ended well")
