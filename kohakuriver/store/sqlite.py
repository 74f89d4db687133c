"""Everything that is SQLite's own: how connections are opened and checked, and the writer's connection.

Facts: https://www.sqlite.org/pragma.html and https://www.sqlite.org/rescode.html.
"""

import logging
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from kohakuriver.errors import KohakuRiverError, StorageFull, StoreError
from kohakuriver.store.group import BatchFailed
from kohakuriver.store.write import ConstraintFailed, Statement

log = logging.getLogger(__name__)

#: below this, two connections that write or checkpoint at once can corrupt a WAL (fixed in 3.51.3)
SOUND_VERSION = (3, 51, 3)
BUSY_MS = 5000
WAL_LIMIT = 64 * 1024 * 1024
CACHED_STATEMENTS = 256
#: pages of 4 KiB after which the log is brought into the file: 32 MiB, half of what the log may grow to
CHECKPOINT_PAGES = 8192

_SAFE: dict[str, int | str] = {
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": BUSY_MS,
    "trusted_schema": 0,
}
WRITER: dict[str, int | str] = {
    "journal_mode": "wal",
    **_SAFE,
    "journal_size_limit": WAL_LIMIT,
    "wal_autocheckpoint": CHECKPOINT_PAGES,
}
READER: dict[str, int | str] = {**_SAFE, "query_only": 1, "wal_autocheckpoint": 0}

#: extended result codes that mean a full disk; the last: the shared-memory file could not grow
_FULL = {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}
_KINDS = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_ROWID": "unique",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key",
    "SQLITE_CONSTRAINT_NOTNULL": "not_null",
    "SQLITE_CONSTRAINT_CHECK": "check",
}


def warn_of_old_library() -> None:
    """Logs the version of SQLite, as a warning where it has the fault of SOUND_VERSION."""
    extra = {"action": "store_open", "sqlite": sqlite3.sqlite_version}
    if sqlite3.sqlite_version_info < SOUND_VERSION:
        log.warning(
            "SQLite %s is older than 3.51.3, which fixed a rare corruption; one writer per file avoids it here",
            sqlite3.sqlite_version,
            extra=extra,
        )
    else:
        log.info("SQLite %s", sqlite3.sqlite_version, extra=extra)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that writes as contracts.md §3 asks, every setting read back. Raises StoreError on a mismatch."""
    connection = bare(path)
    try:
        for name, value in WRITER.items():
            connection.execute(f"PRAGMA {name}={value}")
        check_pragmas(WRITER, {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in WRITER})
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} cannot be opened: {error}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def bare(path: Path) -> sqlite3.Connection:
    """A connection without settings, in autocommit. Raises StoreError when the file cannot be opened."""
    try:
        return sqlite3.connect(
            path,
            isolation_level=None,
            timeout=BUSY_MS / 1000,
            cached_statements=CACHED_STATEMENTS,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error


def check_pragmas(wanted: Mapping[str, int | str], found: Mapping[str, int | str]) -> None:
    """Raises StoreError naming the first setting that SQLite did not take."""
    for name, value in wanted.items():
        if str(found[name]).lower() != str(value):
            raise StoreError(
                f"SQLite did not take {name}={value} (it says {found[name]}); use a local disk and a newer SQLite"
            )


class SqliteConnection:
    """`group.Connection` over the standard library's module."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def begin(self) -> str:
        try:
            self._run("BEGIN IMMEDIATE")
            row = self._run("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        except sqlite3.Error as error:
            raise BatchFailed(translate(error)) from error
        return str(row[0]) if row else "none"

    def mark(self) -> None:
        self._all("SAVEPOINT member")

    def release(self) -> None:
        self._all("RELEASE member")

    def back_to_mark(self) -> None:
        self._all("ROLLBACK TO member")

    def execute(self, statement: Statement) -> int:
        try:
            if statement.many:
                return self._connection.executemany(statement.sql, statement.rows).rowcount if statement.rows else 0
            return self._run(statement.sql, statement.rows[0]).rowcount
        except sqlite3.IntegrityError as error:
            raise _constraint(error, statement) from error
        # a number beyond 64 bits, or a value of a kind that SQLite does not keep
        except (OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError) as error:
            raise StoreError(f"{statement.what}: {error}") from error
        except sqlite3.Error as error:
            translated = translate(error)
            if isinstance(translated, StorageFull) or not self._connection.in_transaction:
                raise BatchFailed(translated) from error
            raise StoreError(f"{statement.what}: {error}") from error

    def commit(self) -> None:
        self._all("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._run("ROLLBACK")
            except sqlite3.Error:
                log.exception("rollback failed", extra={"action": "store_rollback"})

    def close(self) -> None:
        """Empties the write-ahead log into the file, if no reader is in the way, and closes."""
        try:
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("last checkpoint failed: %s", error, extra={"action": "store_close"})
        self._connection.close()

    def _all(self, sql: str) -> None:
        try:
            self._run(sql)
        except sqlite3.Error as error:
            raise BatchFailed(translate(error)) from error


def translate(error: sqlite3.Error) -> KohakuRiverError:
    """StorageFull when the disk is at fault, else StoreError."""
    name = getattr(error, "sqlite_errorname", "")
    if name in _FULL:
        return StorageFull("the disk of the host is full; nothing was stored; free space and try again")
    return StoreError(f"the store failed: {error} ({name})")


def _constraint(error: sqlite3.IntegrityError, statement: Statement) -> ConstraintFailed:
    kind = _KINDS.get(getattr(error, "sqlite_errorname", ""), "check")
    named = re.findall(r"(\w+)\.(\w+)", str(error))
    return ConstraintFailed(
        f"{statement.what}: {error}",
        kind=kind,
        table=named[0][0] if named else "",
        columns=tuple(column for _, column in named),
    )
