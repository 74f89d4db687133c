"""One attempt as the journal holds it, and how it becomes columns. Pure but for the encoding."""

from dataclasses import dataclass, fields
from typing import Any

import msgspec

from kohakuriver.hooks.values import Handle
from kohakuriver.wire import codec
from kohakuriver.wire.link import Assign, Held, WireReserved

#: what ends an attempt; never taken back
ENDING = frozenset({"stopped", "killed"})
#: nothing runs and nothing will
DONE = frozenset({"exited", "closed"})

_JSON = {"assign": Assign, "handle": Handle}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where an attempt stands. Phases: accepted, created, running, paused, exited, closed: contrib/notes/wire.md."""

    attempt: str
    instance: str
    backend: str
    #: what was assigned; for a recovered body and a tombstone an empty one
    assign: Assign
    phase: str = "accepted"
    wanted: str = "run"
    revision: int = 0
    #: seconds between SIGTERM and SIGKILL, as last wished
    grace: float = 30.0
    handle: Handle | None = None
    #: this very start, in the backend's words
    run: str | None = None
    #: the boot in which it was accepted
    boot: str
    #: CLOCK_BOOTTIME at the start
    started: float | None = None
    #: seconds paused, finished pauses only
    paused: float = 0.0
    #: CLOCK_BOOTTIME at the beginning of the present pause
    paused_at: float | None = None
    #: the first of our signals: killed, stopped, timed_out or lease.OUTLIVED
    signalled: str | None = None
    #: found without a journal row: held, never started by us
    recovered: bool = False

    @property
    def done(self) -> bool:
        """Whether it has ended here, one way or the other."""
        return self.phase in DONE

    @property
    def reserved(self) -> WireReserved:
        return self.assign.reserved

    def elapsed(self, now: float) -> float:
        """Seconds in `running`, pauses left out; 0 before the start."""
        if self.started is None:
            return 0.0
        until = now if self.paused_at is None else self.paused_at
        return max(0.0, until - self.started - self.paused)

    def facts(self) -> dict[str, str]:
        """What it is and whose, for a host that has lost its record."""
        found = {"instance": self.instance, "backend": self.backend, "phase": self.phase, "owner": self.assign.owner}
        return {name: text for name, text in found.items() if text}

    def held(self) -> Held:
        """The line of the inventory."""
        return Held(attempt=self.attempt, phase=self.phase, wish=self.revision, wanted=self.wanted)


COLUMNS = tuple(field.name for field in fields(Entry))


def without_secrets(assign: Assign) -> Assign:
    """What is kept of an assignment once nothing will be started from it."""
    return msgspec.structs.replace(assign, env={}, secrets={}, argv=[], script=None, options={})


def nothing_assigned(attempt: str, instance: str) -> Assign:
    """The assignment of what nobody assigned: a recovered body, a tombstone."""
    return Assign(attempt=attempt, instance=instance, owner="", reserved=WireReserved())


def to_column(name: str, value: Any) -> Any:
    """The value as SQLite keeps it."""
    if value is not None and name in _JSON:
        return codec.encode(value)
    return int(value) if isinstance(value, bool) else value


def from_row(row: tuple[Any, ...]) -> Entry:
    """The entry of one row, columns in the order of COLUMNS."""
    values = dict(zip(COLUMNS, row, strict=True))
    for name, kind in _JSON.items():
        if values[name] is not None:
            values[name] = codec.decode(values[name], kind)
    values["recovered"] = bool(values["recovered"])
    return Entry(**values)
