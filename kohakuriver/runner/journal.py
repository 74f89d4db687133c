"""What this runner has taken on, committed before it acts (contracts.md §1, rule 3), and the reports that wait.

Mirrors every row in memory, changed only after its commit. Knows no backend and no link.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import msgspec

from kohakuriver.errors import ConfigError
from kohakuriver.runner.database import Database, Statement
from kohakuriver.runner.entry import COLUMNS, Entry, from_row, to_column
from kohakuriver.runner.outbox import Line, Outbox
from kohakuriver.wire import codec
from kohakuriver.wire.link import Report

VERSION = 1
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS attempts(
        attempt TEXT PRIMARY KEY, instance TEXT NOT NULL, backend TEXT NOT NULL, assign BLOB NOT NULL,
        phase TEXT NOT NULL, wanted TEXT NOT NULL, revision INTEGER NOT NULL, grace REAL NOT NULL,
        handle BLOB, run TEXT, boot TEXT NOT NULL, started REAL, paused REAL NOT NULL, paused_at REAL,
        signalled TEXT, recovered INTEGER NOT NULL, final BLOB) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS outbox(seq INTEGER PRIMARY KEY, attempt TEXT NOT NULL, payload BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
)
_META = "INSERT INTO meta(name, value) VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"
#: the highest seq that went out of the outbox; what is still in it knows its own
_SEQ = "INSERT INTO meta(name, value) VALUES('seq', ?) ON CONFLICT(name) DO UPDATE SET value=max(value, excluded.value)"
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM attempts"  # noqa: S608 - names of our own
_INSERT = f"INSERT INTO attempts({', '.join(COLUMNS)}, final) VALUES({', '.join('?' * (len(COLUMNS) + 1))})"


class Journal:
    """The node's memory. One process at a time holds it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.attempts: dict[str, Entry] = {}
        self.outbox = Outbox()
        self.epoch = 0
        self.cluster = ""
        self.incarnation = 0
        self._database = Database(directory / "runner.db")
        self._lock: int | None = None
        self._seq = 0

    async def open(self, *, epoch: int) -> Self:
        """Takes the directory for this process and reads everything. `epoch` names the journal if it is a new one.

        Raises ConfigError when another runner holds the directory, StoreError when the file cannot be used.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self.directory / "runner.lock")
        try:
            await self._database.open(SCHEMA, VERSION)
            await self._load(epoch)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Finishes what waits and lets the directory go. May be called twice."""
        await self._database.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    @property
    def last_seq(self) -> int:
        """The highest seq given out in this epoch."""
        return self._seq

    def open_entries(self) -> Iterator[Entry]:
        """The attempts that have not ended."""
        return (entry for entry in self.attempts.values() if not entry.done)

    async def add(self, entry: Entry, report: Report | None = None) -> None:
        """A new attempt, with its first report. A closed entry keeps the report as its final one."""
        final = codec.encode(report) if report is not None and entry.done else None
        values = [to_column(name, getattr(entry, name)) for name in COLUMNS]
        await self._write([(_INSERT, [*values, final])], report, lambda: self.attempts.update({entry.attempt: entry}))

    async def change(self, attempt: str, report: Report | None = None, *, sync: bool = True, **changes: Any) -> Entry:
        """Changes columns of an attempt, together with a report. Two callers may change different columns at once.

        Without `sync` it does not wait for the disk: for what another boot would make untrue anyway.
        """
        assignments = [f"{name}=?" for name in changes]
        values = [to_column(name, value) for name, value in changes.items()]
        if report is not None and replace(self.attempts[attempt], **changes).done:
            assignments.append("final=?")
            values.append(codec.encode(report))
        statements: list[Statement] = []
        if assignments:
            sql = f"UPDATE attempts SET {', '.join(assignments)} WHERE attempt=?"  # noqa: S608 - names of our own
            statements.append((sql, [*values, attempt]))

        def applied() -> None:
            self.attempts[attempt] = replace(self.attempts[attempt], **changes)

        secret = "assign" in changes and bool(self.attempts[attempt].assign.secrets)
        await self._write(statements, report, applied, sync=sync, wipe=secret)
        return self.attempts[attempt]

    async def report(self, report: Report) -> None:
        """A report that changes no row."""
        await self._write([], report, _nothing)

    async def final(self, attempt: str) -> Report | None:
        """The report that closed the attempt."""
        rows = await self._database.read("SELECT final FROM attempts WHERE attempt=?", (attempt,))
        if not rows or rows[0][0] is None:
            return None
        report: Report = codec.decode(rows[0][0], Report)
        return report

    async def remove(self, *attempts: str) -> None:
        """Forgets attempts. Their reports stay until they are acknowledged. What comes back is forgotten again."""
        rows = [("DELETE FROM attempts WHERE attempt=?", (attempt,)) for attempt in attempts]
        await self._database.write(rows, lambda: _drop(self.attempts, attempts), sync=False)

    async def payload(self, seq: int) -> bytes | None:
        """The bytes of a waiting report; None when it was acknowledged meanwhile."""
        cached = self.outbox.cached(seq)
        if cached is not None:
            return cached
        rows = await self._database.read("SELECT payload FROM outbox WHERE seq=?", (seq,))
        return rows[0][0] if rows else None

    async def acknowledge(self, seq: int) -> None:
        """The host has committed all reports up to `seq`. If they come back, they are sent again and change nothing."""
        rows = [("DELETE FROM outbox WHERE seq<=?", (seq,)), (_SEQ, (seq,))]
        await self._database.write(rows, lambda: self.outbox.acknowledge(seq), sync=False)

    async def remember(self, *, cluster: str, incarnation: int) -> None:
        """Keeps whom this runner belongs to and the highest incarnation seen."""
        await self._database.write([(_META, ("cluster", cluster)), (_META, ("incarnation", incarnation))])
        self.cluster, self.incarnation = cluster, incarnation

    async def belong(self, credential: str, cluster: str) -> None:
        """Notes with which credential this node works. Another one than before means that it was joined again: what
        was known of the former host no longer fences the new one.
        """
        member = hashlib.sha256(credential.encode()).hexdigest()
        rows = await self._database.read("SELECT value FROM meta WHERE name='member'")
        if rows and rows[0][0] == member:
            return
        if rows:
            await self.remember(cluster=cluster, incarnation=0)
        await self._database.write([(_META, ("member", member))])

    async def wake_in(self, boot: str) -> None:
        """Notes the boot in which this journal is used. After another one its newest rows may be missing, and their
        numbers would be given out twice: a new epoch begins.
        """
        rows = await self._database.read("SELECT value FROM meta WHERE name='boot'")
        if rows and rows[0][0] == boot:
            return
        if rows:
            await self.renew(self.epoch + 1)
        await self._database.write([(_META, ("boot", boot))])

    async def contact(self, boot: str) -> float | None:
        """The last contact with the host that was kept, in CLOCK_BOOTTIME, if it was in this boot."""
        rows = await self._database.read("SELECT value FROM meta WHERE name='contact'")
        kept, _, seconds = rows[0][0].partition(" ") if rows else ("", "", "")
        return float(seconds) if kept == boot else None

    async def keep_contact(self, boot: str, seconds: float) -> None:
        """Keeps it, without waiting for the disk: another boot ends what it is for."""
        await self._database.write([(_META, ("contact", f"{boot} {seconds!r}"))], sync=False)

    async def renew(self, epoch: int) -> None:
        """Begins a new epoch: this file is an older copy of itself. Waiting reports keep their order and their seq."""
        await self._database.write([(_META, ("epoch", epoch))])
        self.epoch = epoch

    async def _write(
        self,
        statements: list[Statement],
        report: Report | None,
        applied: Callable[[], None],
        *,
        sync: bool = True,
        wipe: bool = False,
    ) -> None:
        if report is None:
            await self._database.write(statements, applied, sync=sync, wipe=wipe)
            return
        self._seq += 1
        report = msgspec.structs.replace(report, seq=self._seq)
        seq, attempt, payload = report.seq, report.attempt, codec.encode(report)

        def both() -> None:
            applied()
            self.outbox.append(seq, attempt, payload)

        row = ("INSERT INTO outbox(seq, attempt, payload) VALUES(?, ?, ?)", (seq, attempt, payload))
        await self._database.write([*statements, row], both, sync=sync, wipe=wipe)

    async def _load(self, epoch: int) -> None:
        new = [("INSERT OR IGNORE INTO meta(name, value) VALUES('epoch', ?)", (epoch,))]
        await self._database.write(new)
        meta: dict[str, Any] = dict(await self._database.read("SELECT name, value FROM meta"))
        self.epoch, self._seq = meta["epoch"], meta.get("seq", 0)
        self.cluster, self.incarnation = meta.get("cluster", ""), meta.get("incarnation", 0)
        for row in await self._database.read(_SELECT):
            entry = from_row(row)
            self.attempts[entry.attempt] = entry
        for seq, attempt, size in await self._database.read(
            "SELECT seq, attempt, length(payload) FROM outbox ORDER BY seq"
        ):
            self.outbox.load(Line(seq=seq, attempt=attempt, size=size))
            self._seq = max(self._seq, seq)


def _nothing() -> None:
    pass


def _drop(entries: dict[str, Entry], attempts: Sequence[str]) -> None:
    for attempt in attempts:
        entries.pop(attempt, None)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise ConfigError(
            f"{path.parent}: another runner works here (process {holder or 'unknown'}); stop it first"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
