"""What the host's messages do to attempts: assign, wish, forget. The only place that takes one on or lets one go.

Messages about one attempt are handled in the order of their arrival, those about different ones side by side.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kohakuriver.domain.retries import FENCED
from kohakuriver.errors import KohakuRiverError
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Handle
from kohakuriver.runner import admit
from kohakuriver.runner.clearing import Clearing
from kohakuriver.runner.desk import Desk
from kohakuriver.runner.entry import ENDING, Entry, nothing_assigned, without_secrets
from kohakuriver.runner.supervise import Supervisor
from kohakuriver.wire.link import Assign, Report, WireCell, WireReserved, Wish

log = logging.getLogger(__name__)

#: longer than an assignment can take (settings.check_limit); what may still wait then is a removal or a full disk
SETTLE_SECONDS = 15.0
#: seconds between two tries to remove a body, at most
LONGEST_REMOVAL = 300.0
#: ends before which nothing was reported
ALONE = frozenset({"refused_for_now", "refused_for_good", "unknown"})
#: how an attempt without a handle may have ended although its body was made
AFTER_CREATE = frozenset({"start_failed", "never_started"})


class Attempts:
    """The attempts of this node and their supervisors."""

    def __init__(self, desk: Desk, group: asyncio.TaskGroup, cells: Callable[[], list[WireCell]]) -> None:
        self.desk = desk
        self._group = group
        self._cells = cells
        self._supervisors: dict[str, Supervisor] = {}
        self._admitting: dict[str, WireReserved] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._clearing = Clearing(desk, group)
        #: removals that failed: how long the last wait was, and which wait now
        self._removals: dict[str, float] = {}
        self._waiting: set[str] = set()

    def supervise(self, attempt: str) -> None:
        """Starts the attempt's supervisor; once, however often it is called."""
        entry = self.desk.journal.attempts[attempt]
        backend = self.desk.backends.get(entry.backend)
        if attempt in self._supervisors or entry.done or backend is None:
            return
        supervisor = Supervisor(self.desk, backend, attempt)
        self._supervisors[attempt] = supervisor
        task = self._group.create_task(supervisor.run(), name=f"attempt {attempt}")
        task.add_done_callback(lambda _: self._supervisors.pop(attempt, None))

    def wake(self, attempt: str) -> None:
        """Lets the attempt's supervisor look again at what holds for it."""
        supervisor = self._supervisors.get(attempt)
        if supervisor is not None:
            supervisor.wake()

    def assign(self, assign: Assign) -> None:
        self._next(assign.attempt, lambda: self.accept(assign))

    def wish(self, wish: Wish) -> None:
        entry = self.desk.journal.attempts.get(wish.attempt)
        if entry is not None and wish.revision <= entry.revision and wish.attempt not in self._turns:
            return
        self._next(wish.attempt, lambda: self.obey(wish))

    def refuse(self, assign: Assign, reason: str) -> None:
        """Answers an assignment that cannot be read."""

        async def call() -> None:
            if assign.attempt not in self.desk.journal.attempts and admit.proper(assign):
                await self._take(assign, admit.Refusal(reason=reason, for_good=True))

        self._next(assign.attempt, call)

    def forget(self, attempt: str) -> None:
        self._next(attempt, lambda: self.let_go(attempt))

    async def settled(self) -> None:
        """Returns when every message so far has been handled, or is no assignment: those take no longer."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._turns:
                    await asyncio.wait(set(self._turns.values()))
        except TimeoutError:
            log.warning("messages of the last session are still being handled", extra={"attempts": len(self._turns)})

    @property
    def busy(self) -> int:
        """Attempts with messages that wait."""
        return len(self._turns)

    async def accept(self, assign: Assign) -> None:
        """Takes an assignment on, refuses it, or says again where the attempt stands. Starts at most once."""
        journal = self.desk.journal
        if assign.attempt in journal.attempts:
            await self._repeat(assign.attempt)
            await self.obey(
                Wish(attempt=assign.attempt, wanted=assign.wanted, revision=assign.revision, grace=assign.grace)
            )
            return
        if not admit.proper(assign):
            log.error("an assignment with an unusable name", extra={"attempt": assign.attempt})
            return
        try:
            found = await self._admit(assign)
            await self._take(assign, found)
        finally:
            self._admitting.pop(assign.attempt, None)

    async def obey(self, wish: Wish) -> None:
        """Takes a wish over, if it is a newer one."""
        journal = self.desk.journal
        entry = journal.attempts.get(wish.attempt)
        if entry is None:
            await self._unknown(wish)
            return
        if wish.revision <= entry.revision:
            return
        wanted = wish.wanted
        if entry.wanted in ENDING and not (entry.wanted == "stopped" and wanted == "killed"):
            wanted = entry.wanted
        await self.desk.keep(wish.attempt, wanted=wanted, revision=wish.revision, grace=wish.grace)
        self.wake(wish.attempt)
        if entry.done:  # whoever wishes something of it does not know that it is over
            await self._repeat(wish.attempt)

    async def let_go(self, attempt: str) -> None:
        """Removes body, output and row of an attempt that has ended. May be called again after a crash."""
        entry = self.desk.journal.attempts.get(attempt)
        if entry is None:
            return
        if not entry.done:
            log.error("told to forget what has not ended; only a wish ends it", extra={"attempt": attempt})
            return
        backend = self.desk.backends.get(entry.backend)
        try:
            if backend is not None:
                async with asyncio.timeout(self.desk.settings.remove_limit):
                    for handle in await self._bodies(backend, entry):
                        await backend.remove(handle)
            await self._clearing.clear(attempt, self.desk.places(entry.instance))
        except (KohakuRiverError, TimeoutError, OSError) as error:  # the row stays
            log.warning("an attempt cannot be forgotten yet", extra={"attempt": attempt, "error": str(error)})
            self._later(attempt)
            return
        self._removals.pop(attempt, None)

    def _later(self, attempt: str) -> None:
        """Tries the removal again by itself, ever more seldom; the host says it but once a session."""

        async def again(wait: float) -> None:
            await self.desk.clock.sleep(wait)
            self._waiting.discard(attempt)
            self.forget(attempt)

        if attempt not in self._waiting:
            self._waiting.add(attempt)
            wait = self._removals[attempt] = min(2 * self._removals.get(attempt, 1.0), LONGEST_REMOVAL)
            self._group.create_task(again(wait), name=f"remove {attempt}")

    async def _bodies(self, backend: Backend, entry: Entry) -> list[Handle]:
        """What is to be removed. A body may be there whose handle was never written down; not if it ran."""
        if entry.handle is not None:
            return [entry.handle]
        final = await self.desk.journal.final(entry.attempt)
        if final is None or final.what not in AFTER_CREATE:
            return []
        found = [handle for instance, handle in await backend.found() if instance == entry.instance]
        return [handle for handle in found if (await backend.see(handle)).phase == "created"]

    async def _admit(self, assign: Assign) -> admit.Refusal | str:
        """A refusal, or the name of the backend; what is asked for counts from here on."""
        backend = admit.choose(self.desk, assign)
        if isinstance(backend, admit.Refusal):
            return backend
        if assign.lease is not None:
            await self.desk.lease.keep()
            if self.desk.lease.spent(assign.lease):
                return admit.Refusal(reason=FENCED, for_good=False)
        # from the sum to the reservation nothing is awaited, so that no two assignments find the same room
        held = [entry.reserved for entry in self.desk.journal.open_entries()] + list(self._admitting.values())
        full = self.desk.journal.outbox.full
        reason = admit.too_much(assign.reserved, held, self._cells(), outbox_full=full)
        if reason is not None:
            return admit.Refusal(reason=reason, for_good=False)
        self._admitting[assign.attempt] = assign.reserved
        return await admit.problems(self.desk, backend, assign) or backend.name

    async def _take(self, assign: Assign, found: admit.Refusal | str) -> None:
        if isinstance(found, admit.Refusal):
            what = "refused_for_good" if found.for_good else "refused_for_now"
            report = self.desk.report(assign.attempt, what, found.reason)
            entry = self._entry(without_secrets(assign), backend=assign.backend or "", phase="closed")
        else:
            report = self.desk.report(assign.attempt, "accepted")
            entry = self._entry(assign, backend=found, phase="accepted")
        try:
            await self.desk.journal.add(entry, report)
        except KohakuRiverError as error:  # the host has no answer and sends it again
            log.warning("an assignment cannot be journaled", extra={"attempt": assign.attempt, "error": error.message})
            return
        self.supervise(assign.attempt)

    def _entry(self, assign: Assign, *, backend: str, phase: str) -> Entry:
        return Entry(
            attempt=assign.attempt,
            instance=assign.instance,
            backend=backend,
            assign=assign,
            phase=phase,
            wanted=assign.wanted,
            revision=assign.revision,
            grace=assign.grace,
            boot=self.desk.boot,
        )

    async def _repeat(self, attempt: str) -> None:
        """Reports again where the attempt stands, unless a report of it is on its way."""
        journal = self.desk.journal
        if journal.outbox.waits(attempt):
            return
        for report in story(self.desk, journal.attempts[attempt], await journal.final(attempt)):
            await journal.report(report)

    async def _unknown(self, wish: Wish) -> None:
        """Answers a wish for what is not held; one that ends it leaves a tombstone, so that it can never start."""
        journal = self.desk.journal
        report = self.desk.report(wish.attempt, "unknown")
        if wish.wanted not in ENDING:
            if not journal.outbox.waits(wish.attempt):
                await journal.report(report)
            return
        if admit.NAME.fullmatch(wish.attempt) is None:
            log.error("a wish with an unusable name", extra={"attempt": wish.attempt})
            return
        entry = self._entry(nothing_assigned(wish.attempt, wish.attempt), backend="", phase="closed")
        await journal.add(entry, report)

    def _next(self, attempt: str, call: Callable[[], Awaitable[None]]) -> None:
        """Runs the call after those before it for the same attempt."""
        before = self._turns.get(attempt)

        async def turn() -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await call()
            except KohakuRiverError as error:  # logged here; the host sees no answer and sends it again
                log.warning("a message had no effect", extra={"attempt": attempt, "error": error.message})
            except Exception:  # one poisoned attempt takes no runner down; logged here, and the host sends it again
                log.exception("a message had no effect", extra={"attempt": attempt})

        task = self._group.create_task(turn(), name=f"turn {attempt}")
        self._turns[attempt] = task
        task.add_done_callback(lambda done: self._done(attempt, done))

    def _done(self, attempt: str, task: asyncio.Task[None]) -> None:
        if self._turns.get(attempt) is task:
            del self._turns[attempt]


def story(desk: Desk, entry: Entry, final: Report | None) -> list[Report]:
    """All that was reported of an attempt, as far as a host that knows nothing of it needs it."""
    words = [] if final is not None and final.what in ALONE else ["accepted"]
    if entry.run is not None:
        words.append("started")
    if entry.phase == "paused":
        words.append("paused")
    reports = [desk.report(entry.attempt, word) for word in words]
    return reports if final is None else [*reports, final]
