"""Brings a store to this program's schema, behind a fence: tortoise's migrations can delete rows on SQLite.

A file is migrated as a copy and takes the original's place only after every check; a backup stays in `backups/`.
"""

import asyncio
import errno
import importlib
import logging
import os
import pkgutil
import shutil
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException
from tortoise.migrations.executor import MigrationExecutor

import kohakuriver
from kohakuriver.errors import StorageFull, StoreError
from kohakuriver.store import place, sqlite
from kohakuriver.store.columns import indexes_of, table_of
from kohakuriver.store.models import MODELS, PARTIAL_UNIQUE
from kohakuriver.store.reader import APPS

log = logging.getLogger(__name__)

#: table -> (rows, rows in which the column is not null, by column)
Counts = dict[str, tuple[int, dict[str, int]]]


class NewerSchema(StoreError):
    """the store was written by a newer release than this program"""

    code: ClassVar[str] = "newer_schema"


def known_migrations() -> tuple[str, ...]:
    """The names of this program's migrations, in order."""
    package = importlib.import_module(APPS["store"]["migrations"])
    return tuple(sorted(name for _, name, _ in pkgutil.iter_modules(package.__path__)))


def pending_migrations(applied: set[str], program: str, where: str) -> tuple[str, ...]:
    """What is to be done. Raises NewerSchema, naming both versions, when the store has what this program lacks."""
    known = known_migrations()
    if newer := sorted(applied - set(known)):
        raise NewerSchema(
            f"{where} has schema {newer[-1]} of kohakuriver {program or 'unknown'}, but this is kohakuriver "
            f"{kohakuriver.__version__} with schema {known[-1]}; install the newer release, or restore an older backup"
        )
    return tuple(name for name in known if name not in applied)


def migrate_file(path: Path, now: datetime) -> Path | None:
    """Brings the SQLite file up to date, or makes it; blocks, so call it in a thread. Returns the backup it took.

    The caller holds the directory's lock. Killed at any moment, it leaves the old file or the new one, whole.
    """
    old, program = applied_migrations(path)
    pending = pending_migrations(old, program, str(path))
    if not pending:
        return None
    work = path.with_name(path.name + ".migrating")
    try:
        for leftover in (work, work.with_name(work.name + "-journal")):
            leftover.unlink(missing_ok=True)
        place.own(work)
        backup = _backup(path, work, pending[0], now) if old else None
        _migrate_copy(work, _counts(work))
        _take_place(work, path)
    except (OSError, sqlite3.Error, BaseORMException) as error:
        if _is_full(error):
            raise StorageFull(f"no room to migrate {path}, which is unchanged; free space and start again") from error
        raise StoreError(f"{path} could not be migrated and is unchanged: {error}") from error
    finally:
        work.unlink(missing_ok=True)
    log.info("migrated", extra={"action": "store_migrate", "migrations": pending, "backup": str(backup)})
    return backup


def _is_full(error: BaseException) -> bool:
    """Whether the disk is at fault; tortoise carries the database's error as its argument."""
    cause = error.args[0] if isinstance(error, BaseORMException) and error.args else error
    return getattr(cause, "errno", 0) == errno.ENOSPC or getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL"


def applied_migrations(path: Path) -> tuple[set[str], str]:
    """The migrations that the file has, and the release that wrote it last. Empty for a file without tables."""
    if not path.exists():
        return set(), ""
    connection = sqlite.bare(path)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "tortoise_migrations" not in tables:
            if tables:
                raise StoreError(f"{path} is a database of something else; give another data directory")
            return set(), ""
        names = {name for (name,) in connection.execute("SELECT name FROM tortoise_migrations WHERE app = 'store'")}
        program = (
            connection.execute("SELECT value FROM meta WHERE key = 'program'").fetchone() if "meta" in tables else None
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}; restore a backup") from error
    finally:
        connection.close()
    return names, program[0] if program else ""


def _backup(path: Path, work: Path, migration: str, now: datetime) -> Path:
    """Copies the file into `backups/` and into `work`."""
    folder = path.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    backup = folder / f"before-{migration}-{now:%Y%m%dT%H%M%S%f}.sqlite3"
    place.own(backup)
    connection = sqlite.bare(path)
    try:
        connection.execute("VACUUM INTO ?", (str(backup),))
    finally:
        connection.close()
    shutil.copyfile(backup, work)
    return backup


def _migrate_copy(work: Path, before: Counts) -> None:
    url = f"sqlite://{work}?journal_mode=DELETE&foreign_keys=OFF&synchronous=FULL"
    asyncio.run(run_migrations(url))
    connection = sqlite.bare(work)
    try:
        for statement in wanted_indexes():
            connection.execute(statement)
        _check(connection, work, before)
    finally:
        connection.close()


async def run_migrations(connection: Any) -> None:
    """Runs tortoise's migrations on one connection, given as tortoise's URL or settings."""
    context = TortoiseContext()
    with context:
        try:
            await context.init(config={"connections": {"default": connection}, "apps": APPS})
            await MigrationExecutor(context.connections.get("default"), APPS).migrate(direction="forward")
        finally:
            await context.connections.close_all(discard=True)


def _check(connection: sqlite3.Connection, work: Path, before: Counts) -> None:
    """Raises StoreError when a row, a value, a reference or a page is not as it was."""
    if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
        raise StoreError(
            f"the migration broke {len(broken)} references, the first in {broken[0][0]}; nothing was changed"
        )
    if (verdict := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        raise StoreError(f"the migrated copy is damaged: {verdict}; nothing was changed")
    after = _counts(work)
    for table, (rows, columns) in before.items():
        rows_after, columns_after = after.get(table, (0, {}))
        if rows_after != rows and table != "tortoise_migrations":
            raise StoreError(f"the migration left {rows_after} of {rows} rows in {table}; nothing was changed")
        for column, filled in columns.items():
            if table != "tortoise_migrations" and columns_after.get(column, filled) < filled:
                raise StoreError(f"the migration emptied {table}.{column}; nothing was changed")


def _counts(path: Path) -> Counts:
    counts: Counts = {}
    connection = sqlite.bare(path)
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (table,) in tables.fetchall():
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            wanted = ", ".join(f'COUNT("{column}")' for column in columns)
            rows, *filled = connection.execute(f'SELECT COUNT(*), {wanted} FROM "{table}"').fetchone()  # noqa: S608
            counts[table] = rows, dict(zip(columns, filled, strict=True))
    finally:
        connection.close()
    return counts


def wanted_indexes() -> list[str]:
    """Statements that make every index of the models which is not there."""
    statements = [partial.sql() for partial in PARTIAL_UNIQUE]
    for model in MODELS:
        for index in indexes_of(model):
            columns = ", ".join(f'"{column}"' for column in index.field_names)
            statements.append(f'CREATE INDEX IF NOT EXISTS "{index.name}" ON "{table_of(model)}" ({columns})')
    return statements


def _take_place(work: Path, path: Path) -> None:
    """Puts the finished copy where the file was; the old file's log must be empty, or it would be played
    into the new one.
    """
    if path.exists():
        connection = sqlite.bare(path)
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.close()
        log_file = path.with_name(path.name + "-wal")
        if busy or (log_file.exists() and log_file.stat().st_size > 0):
            raise StoreError(f"{path} is open in another program; close it and start again")
    for name in (work, work.parent):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    work.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
