"""The part of an attempt's life in which it runs: output, wishes, time limit, until its end. Reports no end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from kohakuriver.errors import BackendAway, PluginError
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.capabilities import CanPause
from kohakuriver.hooks.values import Exit, Handle, Seen
from kohakuriver.runner.desk import LONGEST_RETRY, Desk
from kohakuriver.runner.entry import ENDING, Entry
from kohakuriver.runner.lease import OUTLIVED
from kohakuriver.runner.output import Live

log = logging.getLogger(__name__)

#: no timer sleeps longer: asyncio's clock stands still while the machine sleeps, the limit's does not
LONGEST_TIMER = 30.0
TIMED_OUT = "timed_out"


class Watch:
    """One run. Made anew after each restart and each crash."""

    def __init__(
        self, *, desk: Desk, backend: Backend, handle: Handle, live: Live, attempt: str, changed: asyncio.Event
    ) -> None:
        self.desk = desk
        self.backend = backend
        self.handle = handle
        self.live = live
        self.attempt = attempt
        self.changed = changed
        self._refused = -1
        self._ended: Callable[[], bool] = lambda: False
        self._stopping: asyncio.Task[None] | None = None
        self._stopping_for: tuple[str, int] | None = None

    @property
    def entry(self) -> Entry:
        return self.desk.journal.attempts[self.attempt]

    @property
    def run(self) -> str:
        assert self.entry.run is not None
        return self.entry.run

    async def until_end(self, seen: Seen) -> Exit:
        """How the run ended, with its output taken in. Raises what the backend raises; nothing is touched then."""
        if seen.phase == "paused" and self.entry.phase == "running":
            await self._note_paused()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read())
            waiting = group.create_task(self.backend.wait(self.handle, self.run))
            timer = None if self.entry.assign.time_limit is None else group.create_task(self._tick())
            waiting.add_done_callback(lambda _: self.changed.set())
            self._ended = waiting.done
            while not waiting.done():
                self.changed.clear()
                await self._obey(group)
                if not waiting.done():
                    await self.changed.wait()
            if timer is not None:
                timer.cancel()
            await self._settle_stop(self.entry.grace + LONGEST_TIMER)
            await self._drain(reading)
        return waiting.result()

    async def _obey(self, group: asyncio.TaskGroup) -> None:
        """Makes true what the row wants, as far as it is not yet."""
        entry = self.entry
        ending = self._ending(entry)
        if ending is not None:
            await self._end(group, *ending)
        elif entry.wanted == "paused" and entry.phase == "running":
            await self._pause(entry)
        elif entry.wanted == "run" and entry.phase == "paused":
            await self._resume()

    def _ending(self, entry: Entry) -> tuple[str, int, float] | None:
        """Why the run shall end, by which revision and with which grace; None while it may go on."""
        if self.desk.lease.over(entry):
            return OUTLIVED, 0, 0.0
        if entry.wanted in ENDING:
            return entry.wanted, entry.revision, entry.grace
        return (TIMED_OUT, 0, entry.assign.grace) if self._over(entry) else None

    def _over(self, entry: Entry) -> bool:
        limit = entry.assign.time_limit
        return entry.signalled == TIMED_OUT or (limit is not None and entry.elapsed(self.desk.clock.boot()) >= limit)

    async def _end(self, group: asyncio.TaskGroup, signal: str, revision: int, grace: float) -> None:
        """Begins to end the run. A later wish takes over with its own grace; the first signal is the one reported."""
        if self._stopping_for == (signal, revision):
            return
        if self.entry.signalled is None:
            async with asyncio.timeout(self.desk.settings.see_limit):
                seen = await self.backend.see(self.handle)
            if seen.phase in ("exited", "gone"):
                return
            report = self.desk.report(self.attempt, "limit_reached") if signal == TIMED_OUT else None
            await self.desk.keep(self.attempt, report, signalled=signal)
        await self._settle_stop(0)
        self._stopping_for = (signal, revision)
        self._stopping = group.create_task(self._stop(grace))

    async def _stop(self, grace: float) -> None:
        """Stops, again and again if the backend does not answer: a kill holds."""
        deadline = self.desk.clock.boot() + grace

        async def once() -> None:
            left = max(0.0, deadline - self.desk.clock.boot())
            async with asyncio.timeout(left + self.desk.settings.stop_limit):
                await self.backend.stop(self.handle, self.run, left)

        await self._retry("stop", once)

    async def _settle_stop(self, patience: float) -> None:
        """Lets a stop that has begun finish, for it ends the whole tree; after `patience` it is left."""
        if self._stopping is not None:
            await asyncio.wait({self._stopping}, timeout=patience)
            self._stopping.cancel()
            await asyncio.wait({self._stopping})

    async def _pause(self, entry: Entry) -> None:
        if self._refused == entry.revision:
            return
        if not isinstance(self.backend, CanPause):
            await self._refuse(entry, f"backend {self.backend.name} cannot pause")
            return
        async with asyncio.TaskGroup() as group:
            pausing = group.create_task(self._try_to_pause(self.backend))
            await self._until_done_or_ending(pausing)
        if pausing.cancelled():
            return
        refused = pausing.result()
        if refused is None:
            await self._note_paused()
        else:
            await self._refuse(entry, refused)

    async def _try_to_pause(self, backend: CanPause) -> str | None:
        """Why it cannot be paused; None when it is. A backend that is away says nothing of that."""
        refused: list[str] = []

        async def once() -> None:
            try:
                await backend.pause(self.handle, self.run)
            except BackendAway:
                raise
            except PluginError as error:
                refused.append(error.message)

        await self._retry("pause", once)
        return refused[0] if refused else None

    async def _until_done_or_ending(self, call: asyncio.Task[Any]) -> None:
        """Waits for a call that may hang, but no longer than until the run shall end."""
        call.add_done_callback(lambda _: self.changed.set())
        while not call.done():
            self.changed.clear()
            if self._ended() or self._ending(self.entry) is not None:
                call.cancel()
                break
            await self.changed.wait()
        self.changed.set()

    async def _refuse(self, entry: Entry, reason: str) -> None:
        self._refused = entry.revision
        await self.desk.keep(self.attempt, self.desk.report(self.attempt, "resumed", reason))

    async def _note_paused(self) -> None:
        report = self.desk.report(self.attempt, "paused")
        await self.desk.keep(self.attempt, report, phase="paused", paused_at=self.desk.clock.boot())

    async def _resume(self) -> None:
        if isinstance(self.backend, CanPause):
            backend = self.backend
            async with asyncio.TaskGroup() as group:
                resuming = group.create_task(self._retry("resume", lambda: backend.resume(self.handle, self.run)))
                await self._until_done_or_ending(resuming)
            if resuming.cancelled():
                return
        entry = self.entry
        now = self.desk.clock.boot()
        since = now if entry.paused_at is None else entry.paused_at
        report = self.desk.report(self.attempt, "resumed")
        paused = entry.paused + max(0.0, now - since)
        await self.desk.keep(self.attempt, report, phase="running", paused=paused, paused_at=None)

    async def _tick(self) -> None:
        """Wakes the loop when the limit may be over."""
        limit = self.entry.assign.time_limit
        while limit is not None:
            left = limit - self.entry.elapsed(self.desk.clock.boot())
            if left <= 0:
                self.changed.set()
                left = LONGEST_TIMER
            await self.desk.clock.sleep(min(max(left, 0.01), LONGEST_TIMER))

    async def _read(self) -> None:
        async def once() -> None:
            async for chunk in self.backend.output(self.handle, self.run, self.live.offsets):
                await self.live.feed(chunk)

        await self._retry("output", once)

    async def _drain(self, reading: asyncio.Task[None]) -> None:
        """The last bytes; what does not come in time is counted as `at least`."""
        done, _ = await asyncio.wait({reading}, timeout=self.desk.settings.drain_limit)
        if not done:
            self.live.uncertain()
            reading.cancel()
            await asyncio.wait({reading})

    async def _retry(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        wait = 0.2
        while True:
            try:
                await call()
            except (PluginError, OSError) as error:
                reason = str(error) or "it took too long"
                log.warning("a backend does not answer", extra={"attempt": self.attempt, "call": what, "error": reason})
                await self.desk.clock.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY)
            else:
                return
