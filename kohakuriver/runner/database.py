"""The journal's file: SQLite in a thread of its own, many callers to one commit. Knows no table.

A cancelled caller gives up the answer, never the write. A failed statement rolls back its own caller alone.
What need not outlive the machine's power is committed without waiting for the disk: a crash of this process loses
nothing of it, and the next commit that waits brings it to the disk as well (https://www.sqlite.org/pragma.html).
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohakuriver.errors import StorageFull, StoreError

log = logging.getLogger(__name__)

Statement = tuple[str, Sequence[Any]]
Rows = list[tuple[Any, ...]]

MOST_MEMBERS = 256
#: what is wrong with one caller's values or rows, and not with the file
_OWN_FAULT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError, ValueError)
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA secure_delete=ON",
)


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class _Work:
    statements: Sequence[Statement]
    read: bool
    #: whether the answer waits for the disk
    sync: bool
    #: whether what it replaces shall not stay in the write-ahead log either
    wipe: bool
    answer: asyncio.Future[Rows]
    applied: Callable[[], None]
    loop: asyncio.AbstractEventLoop


class Database:
    """One file, one connection, one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._wiping = False

    async def open(self, schema: Sequence[str], version: int) -> None:
        """Connects and makes the tables. Raises StoreError for a file of a newer program or a broken one."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(schema, version, loop, ready), name="journal", daemon=True
        )
        self._thread.start()
        await ready

    async def write(
        self,
        statements: Sequence[Statement],
        applied: Callable[[], None] = _nothing,
        *,
        sync: bool = True,
        wipe: bool = False,
    ) -> None:
        """Commits all or nothing of these. With `sync` they are on the disk on return; without, a power cut may take
        them back, and only together with everything that was committed later.

        With `wipe` nothing of what was there before is left in the files, as soon as nothing else waits.
        `applied` is called on the loop after the commit, in the order of the commits, also when the caller is gone.
        Raises StorageFull when the file cannot be written.
        """
        await self._ask(statements, read=False, sync=sync, wipe=wipe, applied=applied)

    async def read(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """The rows of one query, after all writes that were asked for before it."""
        return await self._ask([(sql, values)], read=True, sync=False, wipe=False, applied=_nothing)

    async def close(self) -> None:
        """Finishes what waits, then closes. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _ask(
        self, statements: Sequence[Statement], *, read: bool, sync: bool, wipe: bool, applied: Callable[[], None]
    ) -> asyncio.Future[Rows]:
        if self._thread is None:
            raise StoreError(f"{self.path.name}: the journal is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows] = loop.create_future()
        self._queue.put(
            _Work(statements=statements, read=read, sync=sync, wipe=wipe, answer=answer, applied=applied, loop=loop)
        )
        return answer

    def _main(
        self,
        schema: Sequence[str],
        version: int,
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[None],
    ) -> None:
        try:
            connection = _connect(self.path, schema, version)
        except (sqlite3.Error, OSError) as error:
            loop.call_soon_threadsafe(ready.set_exception, StoreError(f"{self.path}: {error}"))
            return
        except StoreError as error:
            loop.call_soon_threadsafe(ready.set_exception, error)
            return
        loop.call_soon_threadsafe(ready.set_result, None)
        file = _File(connection)
        try:
            while self._serve(file):
                pass
        finally:
            connection.close()

    def _serve(self, file: "_File") -> bool:
        """One batch; False when the end was asked for."""
        batch: list[_Work] = []
        going = True
        work = self._queue.get()
        while True:
            if work is None:
                going = False
                break
            batch.append(work)
            if len(batch) == MOST_MEMBERS:
                break
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                break
        if batch:
            _answer(batch, file.commit(batch))
            self._wiping = self._wiping or any(work.wipe for work in batch)
        if self._wiping and (self._queue.empty() or not going):
            self._wiping = not file.emptied()
        return going


def _connect(path: Path, schema: Sequence[str], version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    sync = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, sync) != ("wal", 2):
        raise StoreError(f"{path}: this file system keeps no write-ahead log (mode {mode}); use a local one")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise StoreError(f"{path}: written by a newer program (schema {found}, this one knows {version}); update it")
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={version}")
    connection.execute("COMMIT")
    return connection


class _File:
    """The connection, in its thread. Each call of SQLite gives the interpreter's lock away and has to get it back, so
    a commit makes as few as it can.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sync = True

    def commit(self, batch: Sequence[_Work]) -> list[Rows | Exception]:
        """What became of each member. Without marks first: only when a member fails is everything done again with a
        mark before each.
        """
        try:
            return self._together(batch, self._member)
        except _OWN_FAULT as error:
            self._undo()
            if len(batch) == 1:
                return [_refused(error)]
        except Exception as error:  # noqa: BLE001 -- whatever it was: all of these callers are told, and it is logged
            return self._failed(batch, error)
        try:
            return self._together(batch, self._marked)
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failed(batch, error)

    def emptied(self) -> bool:
        """Brings the log into the file, where what was replaced is overwritten with zeros, and cuts it to nothing."""
        try:
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:  # the next commit tries again
            log.warning("the journal's log cannot be emptied", extra={"error": str(error)})
            return False
        return not busy

    def _together(self, batch: Sequence[_Work], one: Callable[[_Work], Rows | Exception]) -> list[Rows | Exception]:
        sync = any(work.sync for work in batch)
        if sync != self._sync:
            self._connection.execute("PRAGMA synchronous=FULL" if sync else "PRAGMA synchronous=NORMAL")
            self._sync = sync
        if len(batch) == 1 and len(batch[0].statements) == 1:  # commits by itself
            return [self._member(batch[0])]
        self._connection.execute("BEGIN IMMEDIATE")
        results = [one(work) for work in batch]
        self._connection.execute("COMMIT")
        return results

    def _member(self, work: _Work) -> Rows:
        if work.read:
            sql, values = work.statements[0]
            return self._connection.execute(sql, values).fetchall()
        for sql, values in work.statements:
            self._connection.execute(sql, values)
        return []

    def _marked(self, work: _Work) -> Rows | Exception:
        self._connection.execute("SAVEPOINT member")
        try:
            return self._member(work)
        except _OWN_FAULT as error:
            self._connection.execute("ROLLBACK TO member")
            return _refused(error)
        finally:
            self._connection.execute("RELEASE member")

    def _failed(self, batch: Sequence[_Work], error: Exception) -> list[Rows | Exception]:
        """All of these callers are told, and the thread serves the next."""
        self._undo()
        if isinstance(error, sqlite3.Error):
            return [StorageFull(f"the journal cannot be written: {error}") for _ in batch]
        log.error("a commit failed", exc_info=error, extra={"members": len(batch)})
        return [StoreError(f"the journal failed: {error!r}") for _ in batch]

    def _undo(self) -> None:
        """What cannot even be undone lets the next commit fail as well, and is tried again then."""
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:  # whoever wrote is told of the first failure; the thread serves the next
                log.warning("the journal cannot undo a commit", extra={"error": str(error)})


def _refused(error: Exception) -> StoreError:
    return StoreError(f"the journal refuses this: {error}")


def _answer(batch: Sequence[_Work], results: Sequence[Rows | Exception]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for work, result in zip(batch, results, strict=True):
        by_loop.setdefault(work.loop, []).append(_setter(work, result))
    for loop, setters in by_loop.items():
        try:
            loop.call_soon_threadsafe(_all, setters)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            continue


def _all(setters: Sequence[Callable[[], None]]) -> None:
    for setter in setters:
        setter()


def _setter(work: _Work, result: Rows | Exception) -> Callable[[], None]:
    def setter() -> None:
        outcome = result
        if not isinstance(outcome, Exception):
            try:
                work.applied()
            except Exception as error:  # its caller is told; those behind it in the commit must not wait for ever
                log.exception("memory cannot follow a commit")
                outcome = error
        if work.answer.done():
            return
        if isinstance(outcome, Exception):
            work.answer.set_exception(outcome)
        else:
            work.answer.set_result(outcome)

    return setter
