"""Who is behind a request, remembered: what a credential was found to mean, and which long answers hang on it.

Holds no rights: `domain.access` says what an actor may do. All of it is in memory and may be forgotten at any time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kohakuriver.domain.access import Actor
from kohakuriver.host.credentials import fingerprint

MOST_REMEMBERED = 10_000
FRESH = timedelta(minutes=10)

#: what a token row says it is for: an API token that may do all, or only look; what a password was exchanged for in a
#: program; the lab's own file
ALL, READ, LOGIN, LAB = "all", "read", "login", "lab"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """An actor and the credential that said so."""

    actor: Actor
    #: id of the token; SHA-256 of the session's cookie; "" where signing in is switched off
    credential: str = ""
    #: a browser sent it by itself, so the request must prove where it comes from
    cookie: bool = False
    since: datetime | None = None
    expires: datetime | None = None


@dataclass(slots=True)
class Remembered:
    """A credential that was looked up. `used` and `written` are monotonic; `written` is when the use was stored."""

    caller: Caller
    written: float
    used: float

    def at(self, now: datetime) -> Caller:
        """The caller as of now: a proof of identity is fresh for ten minutes."""
        caller = self.caller
        if caller.actor.fresh and caller.since is not None and now - caller.since >= FRESH:
            caller = self.caller = replace(caller, actor=replace(caller.actor, fresh=False))
        return caller


class Callers:
    """What credentials mean, by the SHA-256 of their text, and the open answers of each."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Remembered] = OrderedDict()
        self._open: dict[tuple[int, str], set[asyncio.Task[object]]] = {}
        #: rises whenever something is forgotten, so that a look-up that began before is not remembered
        self.generation = 0

    def get(self, text: str) -> Remembered | None:
        return self._known.get(fingerprint(text))

    def remember(self, text: str, found: Remembered, generation: int) -> None:
        """Keeps what a look-up found, unless something was forgotten since the look-up began."""
        if generation != self.generation:
            return
        self._known[fingerprint(text)] = found
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    def drop(self, text: str) -> None:
        """Forgets one credential that ran out."""
        self._known.pop(fingerprint(text), None)

    def forget(self, user: int, credential: str | None = None, *, but: str | None = None) -> None:
        """Forgets a user's credential, or all of them but one, and breaks off the answers that hang on them."""
        self.generation += 1
        for key, found in list(self._known.items()):
            if found.caller.actor.id == user and _meant(found.caller.credential, credential, but):
                del self._known[key]
        for (owner, shown), tasks in list(self._open.items()):
            if owner == user and _meant(shown, credential, but):
                for task in tasks:
                    task.cancel("the credential of this request was revoked")

    @contextmanager
    def answering(self, caller: Caller, now: datetime) -> Iterator[None]:
        """While a long answer is given: it is cancelled when the caller's credential is revoked or runs out."""
        task = asyncio.current_task()
        assert task is not None
        key = (caller.actor.id, caller.credential)
        self._open.setdefault(key, set()).add(task)
        timer = None
        if caller.expires is not None:
            left = max(0.0, (caller.expires - now).total_seconds())
            timer = asyncio.get_running_loop().call_later(left, task.cancel, "the credential of this request ran out")
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self._open[key].discard(task)
            if not self._open[key]:
                del self._open[key]


def _meant(shown: str, credential: str | None, but: str | None) -> bool:
    return shown != but if credential is None else shown == credential
