"""How long ago the host is known to have heard of this runner, and which fenced attempts have outlived that
(contrib/notes/wire.md §9). Speaks to nobody; supervisors ask it, and are woken by it.
"""

import logging
from collections.abc import Callable

from kohakuriver.runner.clock import Clock
from kohakuriver.runner.entry import Entry
from kohakuriver.runner.journal import Journal

log = logging.getLogger(__name__)

#: what is journaled in the place of a signal when the lease has run out; never told to the host
OUTLIVED = "fenced"
#: seconds between looks, so that what outlived a sleep of the machine does not outlive it by long
LOOK_SECONDS = 0.5
#: heartbeats that may still be answered
MOST_SENT = 64


class Lease:
    """Contact as CLOCK_BOOTTIME of this boot."""

    def __init__(self, journal: Journal, clock: Clock, boot: str) -> None:
        self._journal = journal
        self._clock = clock
        self._boot = boot
        self._contact: float | None = None
        self._hello: float | None = None
        self._sent: dict[int, float] = {}

    async def open(self) -> None:
        """Takes up the contact that the journal tells of, if it is of this boot; before anything is supervised."""
        self._contact = await self._journal.contact(self._boot)

    def greeted(self) -> None:
        """A session begins: its hello is about to be sent."""
        self._hello = self._clock.boot()
        self._sent.clear()

    def beat(self, number: int) -> None:
        """That heartbeat is about to be sent."""
        self._sent[number] = self._clock.boot()
        while len(self._sent) > MOST_SENT:
            del self._sent[next(iter(self._sent))]

    async def live(self) -> None:
        """The host has taken the session: it had heard the hello."""
        if self._hello is not None:
            await self._renew(self._hello)

    async def renewed(self, number: int) -> None:
        """The host has that heartbeat. One that was never sent renews nothing."""
        sent = self._sent.pop(number, None)
        if sent is not None:
            await self._renew(sent)

    async def keep(self) -> None:
        """Journals the contact, for the first attempt that is fenced."""
        if self._contact is not None:
            await self._journal.keep_contact(self._boot, self._contact)

    def over(self, entry: Entry) -> bool:
        """Whether this attempt must not run any more, and never again."""
        if entry.assign.lease is None or entry.done:
            return False
        return entry.signalled == OUTLIVED or self.spent(entry.assign.lease)

    def spent(self, lease: float) -> bool:
        """Whether a lease of so many seconds has run out."""
        return self._contact is None or self._clock.boot() - self._contact >= lease

    async def watch(self, wake: Callable[[str], None]) -> None:
        """Wakes the supervisors of what has outlived its lease, until cancelled."""
        while True:
            for entry in list(self._journal.open_entries()):
                if self.over(entry):
                    wake(entry.attempt)
            await self._clock.sleep(LOOK_SECONDS)

    async def _renew(self, contact: float) -> None:
        """Counts from here on. What was over before is marked first: new contact brings nothing back."""
        fenced = [entry.attempt for entry in self._journal.open_entries() if entry.assign.lease is not None]
        for attempt in fenced:
            entry = self._journal.attempts.get(attempt)  # as it is now: the one before may have taken its time
            if entry is not None and self.over(entry) and entry.signalled is None:
                log.warning("a lease has run out", extra={"attempt": attempt})
                await self._journal.change(attempt, signalled=OUTLIVED)
        if self._contact is not None and contact <= self._contact:
            return
        self._contact = contact
        if fenced:
            await self._journal.keep_contact(self._boot, contact)
