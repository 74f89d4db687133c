"""One coroutine an attempt, from its journal row to the report of its end. May be started at any phase.

1. Everything is journaled before it is relied on: the handle before start, the run and `started` after it, exit and
   report together. Whatever line this process dies on, the next one goes on from the row.
2. Wishes are levels: before each step the row says what is wanted.
3. What may have been started is never started again, and nothing is stopped but by a wish or a time limit.
4. Cancelling a supervisor touches no workload.
"""

import asyncio
import logging
from datetime import timedelta
from typing import Any

from kohakuriver.domain.retries import FENCED, GONE, REBOOTED
from kohakuriver.errors import BackendAway, Invalid, KohakuRiverError, PluginError
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Exit, Handle, Job, Seen
from kohakuriver.runner.clock import heed_cancellation
from kohakuriver.runner.desk import LONGEST_RETRY, Desk
from kohakuriver.runner.entry import ENDING, Entry, without_secrets
from kohakuriver.runner.lease import OUTLIVED
from kohakuriver.runner.watch import Watch
from kohakuriver.wire.link import Report, Usage, WireExit

log = logging.getLogger(__name__)

MOST_CRASHES = 3
ALIVE = ("running", "paused", "queued")

#: what a backend call may raise without being at fault: it cannot answer now
Unsure = (PluginError, TimeoutError, OSError)


class Supervisor:
    """Takes one attempt to its end."""

    def __init__(self, desk: Desk, backend: Backend, attempt: str) -> None:
        self.desk = desk
        self.backend = backend
        self.attempt = attempt
        self._changed = asyncio.Event()
        #: the run that the present walk itself has started, so that nothing of it needs to be looked for
        self._begun: str | None = None

    @property
    def entry(self) -> Entry:
        return self.desk.journal.attempts[self.attempt]

    def wake(self) -> None:
        """The row's wish has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Returns when the attempt's end is journaled. Never raises for the attempt's sake: three crashes and it is
        given up, reported with its reason.
        """
        crashes = 0
        wait = 0.5
        while not self.entry.done:
            heed_cancellation()
            try:
                await self._walk()
            except* Unsure as group:
                log.warning("a backend does not answer", extra={"attempt": self.attempt, "error": str(first(group))})
                await self.desk.clock.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY)
            except* Exception as group:  # logged here, and the host is told by the quarantine
                crashes += 1
                log.exception("a supervisor crashed", extra={"attempt": self.attempt, "crashes": crashes})
                if crashes == MOST_CRASHES:
                    await self._quarantine(first(group))
                else:
                    await self.desk.clock.sleep(wait)

    async def _walk(self) -> None:
        entry, job = self.entry, None
        self._begun = None
        if entry.phase == "accepted":
            entry, job = await self._create()
        if entry.phase == "created":
            entry = await (self._begin(entry) if job is None else self._start_when_wanted(_handle(entry), job))
        if entry.phase in ("running", "paused"):
            await self._watch(entry)

    async def _create(self) -> tuple[Entry, Job | None]:
        """From `accepted` to a body whose handle is journaled, and its job; or to the end."""
        if self._called_off:
            return await self._call_off(), None
        try:
            job = await self.desk.prepare(self.entry, self.backend)
            if job.image is not None:
                await self._prepare_image(job)
            if self._called_off:
                return await self._call_off(), None
            handle = await self._make(job)
        except BackendAway as error:  # nothing ran yet: it waits for its backend
            self._progress(error.message)
            raise
        except (KohakuRiverError, TimeoutError, OSError) as error:
            heed_cancellation()  # it may have failed for that alone
            return await self._close("start_failed", _sentence(error, "create")), None
        return await self.desk.keep(self.attempt, phase="created", handle=handle, boot=self.desk.boot), job

    async def _make(self, job: Job) -> Handle:
        """Creates the body. An image that somebody removed a moment ago is fetched again, once."""
        version = self.entry.assign.environment
        try:
            async with asyncio.timeout(self.desk.settings.create_limit):
                return await self.backend.create(job)
        except BackendAway:
            raise
        except KohakuRiverError:
            if version is None or not await self.desk.environments.vanished(self.backend, version):
                raise
        await self._prepare_image(job)
        async with asyncio.timeout(self.desk.settings.create_limit):
            return await self.backend.create(job)

    async def _prepare_image(self, job: Job) -> None:
        """Fetches the image, unless the attempt is called off meanwhile. It has a limit of its own."""
        assert job.image is not None
        try:
            async with asyncio.timeout(self.desk.settings.prepare_limit), asyncio.TaskGroup() as group:
                prepare = self.desk.environments.prepare
                fetching = group.create_task(prepare(self.backend, self.entry.assign, job.image, self._progress))
                called_off = group.create_task(self._until_called_off())
                await asyncio.wait({fetching, called_off}, return_when=asyncio.FIRST_COMPLETED)
                fetching.cancel()
                called_off.cancel()
        except BaseExceptionGroup as group_of_one:
            raise first(group_of_one) from None

    async def _begin(self, entry: Entry) -> Entry:
        """From `created` to a run that is journaled and reported; or to the end."""
        handle = _handle(entry)
        seen = await self._see(handle)
        if entry.boot != self.desk.boot and seen.phase not in ALIVE:
            return await self._exited(Exit(reason=REBOOTED))
        if seen.phase in (*ALIVE, "exited") and seen.run is not None:
            return await self._started(seen.run)
        if seen.phase == "exited":
            return await self._exited(seen.exit or Exit(reason=seen.note or None))
        if seen.phase == "gone":
            return await self._exited(Exit(reason=GONE))
        return await self._start_when_wanted(handle)

    async def _start_when_wanted(self, handle: Handle, job: Job | None = None) -> Entry:
        """From a body that never ran to its run, or to the end. `job`: as it was made a moment ago."""
        if self.entry.wanted != "run" or self.entry.recovered:
            await self._until_run_wanted()
            job = None
        if self._called_off:
            return await self._call_off()
        return await self._start(handle, job)

    async def _start(self, handle: Handle, job: Job | None) -> Entry:
        try:
            job = job or await self.desk.prepare(self.entry, self.backend)
        except (KohakuRiverError, OSError) as error:
            return await self._close("start_failed", _sentence(error, "prepare"))
        if self._called_off or self.entry.wanted != "run":  # changed meanwhile: the next walk holds or ends it
            return self.entry
        try:
            async with asyncio.timeout(self.desk.settings.start_limit):
                run = await self.backend.start(handle, job)
        except (*Unsure, Invalid) as error:
            heed_cancellation()
            seen = await self._see(handle)
            if seen.run is not None and seen.phase != "created":
                return await self._started(seen.run)
            if isinstance(error, BackendAway):
                raise
            return await self._close("start_failed", _sentence(error, "start"))
        self._begun = run
        return await self._started(run)

    async def _started(self, run: str) -> Entry:
        """Journals the run. The disk is not waited for: the row before says that a start was asked for, and another
        boot ends the run whatever stands here.
        """
        report = self.desk.report(self.attempt, "started")
        now = self.desk.clock.boot()
        return await self.desk.keep(
            self.attempt, report, sync=False, phase="running", run=run, started=now, boot=self.desk.boot
        )

    async def _watch(self, entry: Entry) -> None:
        handle = _handle(entry)
        fresh = entry.run is not None and entry.run == self._begun
        seen = Seen(phase="running", run=entry.run) if fresh else await self._see(handle)
        if entry.boot != self.desk.boot and seen.phase not in ALIVE:
            await self._exited(Exit(reason=REBOOTED))
            return
        if seen.phase == "gone":
            await self._exited(Exit(reason=GONE))
            return
        live = await self.desk.output.live(self.attempt, fresh=fresh)
        watch = Watch(
            desk=self.desk, backend=self.backend, handle=handle, live=live, changed=self._changed, attempt=self.attempt
        )
        ended = await watch.until_end(seen)
        await self._exited(ended)

    async def _exited(self, ended: Exit) -> Entry:
        """Seals the output and journals the exit together with its report, on the disk: while the host is away nobody
        else knows the exit code, and a power cut must not take it back.
        """
        entry = self.entry
        usage = await self._usage(entry, ended)
        stdout, stderr = await (await self.desk.output.live(self.attempt)).seal()
        if entry.boot != self.desk.boot:  # what a runtime says of a run that a reboot ended is no exit code
            ended = Exit(reason=REBOOTED)
        fenced = self.entry.signalled == OUTLIVED
        report = self.desk.report(
            self.attempt,
            "exited",
            exit=WireExit(
                code=ended.code, signal=ended.signal, oom=ended.oom, reason=FENCED if fenced else ended.reason
            ),
            signalled=None if fenced else self.entry.signalled,
            usage=usage,
            stdout=stdout,
            stderr=stderr,
        )
        return await self._end(report, "exited")

    async def _close(self, what: str, reason: str | None = None) -> Entry:
        """Ends an attempt that never ran."""
        return await self._end(self.desk.report(self.attempt, what, reason), "closed")

    async def _end(self, report: Report, phase: str) -> Entry:
        kept = without_secrets(self.entry.assign)
        ended = await self.desk.keep(self.attempt, report, phase=phase, assign=kept)
        self.desk.output.close(self.attempt)
        return ended

    async def _quarantine(self, error: BaseException) -> None:
        """Gives the attempt up: what runs of it is ended, the rest of the runner lives on."""
        entry = self.entry
        reason = f"given up after {MOST_CRASHES} crashes of its supervisor: {error!r}"
        ran = entry.phase in ("running", "paused")
        if entry.handle is not None:
            try:
                async with asyncio.timeout(self.desk.settings.remove_limit):
                    run = entry.run or (await self.backend.see(entry.handle)).run
                    if run is not None:
                        await self.backend.stop(entry.handle, run, 0)
            except Exception:  # the host is told in the reason
                log.exception("a quarantined attempt cannot be stopped", extra={"attempt": self.attempt})
                reason += "; it could not be stopped and may still run"
                ran = True  # a start that failed would be tried again
        if not ran:
            await self._close("start_failed", reason)
            return
        try:
            await self._exited(Exit(reason=reason))
        except Exception:  # what its end cannot be told with is left out; logged here, and the host has the reason
            log.exception("the end of an attempt cannot be told in full", extra={"attempt": self.attempt})
            bare = WireExit(reason=reason)
            await self._end(self.desk.report(self.attempt, "exited", exit=bare, signalled=entry.signalled), "exited")

    async def _see(self, handle: Handle) -> Seen:
        async with asyncio.timeout(self.desk.settings.see_limit):
            return await self.backend.see(handle)

    async def _usage(self, entry: Entry, ended: Exit) -> Usage:
        usage = Usage()
        if entry.started is not None:
            late = self.desk.clock.wall() - ended.finished if ended.finished is not None else timedelta()
            elapsed = entry.elapsed(self.desk.clock.boot()) - max(0.0, late.total_seconds())
            usage.running_seconds = max(0.0, elapsed)
        if entry.handle is None or entry.boot != self.desk.boot:
            return usage
        try:
            async with asyncio.timeout(self.desk.settings.see_limit):
                stats = (await self.backend.stats([entry.handle])).get(entry.instance)
        except Exception as error:  # noqa: BLE001 - usage is extra; the end must be reported
            log.info("usage is unknown", extra={"attempt": self.attempt, "error": str(error)})
            return usage
        if stats is not None:
            usage.cpu_seconds, usage.memory_peak = stats.cpu_seconds, stats.memory_peak
        return usage

    async def _until_run_wanted(self) -> None:
        """Holds the attempt before its start while a pause is wanted, and a recovered body until a wish ends it."""
        while not self._called_off and (self.entry.wanted == "paused" or self.entry.recovered):
            self._progress("held before its start")
            await self._changed.wait()
            self._changed.clear()

    async def _until_called_off(self) -> None:
        while not self._called_off:
            await self._changed.wait()
            self._changed.clear()

    @property
    def _called_off(self) -> bool:
        """Whether it must not begin any more."""
        return self.entry.wanted in ENDING or self.desk.lease.over(self.entry)

    async def _call_off(self) -> Entry:
        """Ends what must not begin any more; a lease that has run out is told first: it is no end."""
        if self.desk.lease.over(self.entry):
            return await self._close("start_failed", FENCED)
        return await self._close("never_started")

    def _progress(self, note: str, done: int | None = None, total: int | None = None) -> None:
        part = f" {done}/{total}" if done is not None and total else ""
        self.desk.progress(self.attempt, f"{note}{part}")


def first(group: BaseExceptionGroup[Any]) -> BaseException:
    """One of the causes, for words."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _handle(entry: Entry) -> Handle:
    assert entry.handle is not None, f"attempt {entry.attempt}: {entry.phase} without a handle"
    return entry.handle


def _sentence(error: BaseException, step: str) -> str:
    return f"{step}: {str(error) or 'took too long'}"
