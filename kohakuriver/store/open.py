"""Opens the store: place, lock, schema, the writer, the readers. Knows no rule about what is stored."""

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import kohakuriver
from kohakuriver.store import identity, migrate, place, postgres, sqlite
from kohakuriver.store.group import Group
from kohakuriver.store.identity import Identity
from kohakuriver.store.reader import Reader, open_reader
from kohakuriver.store.write import Writer

log = logging.getLogger(__name__)

FILE = "store.sqlite3"
READERS = 2
POSTGRES = ("postgres://", "postgresql://")


class Store:
    """The open store. Reads go through `reader`, every change through `writer`."""

    def __init__(self, *, writer: Writer, reader: Reader, who: Identity, held: place.Held | None) -> None:
        self.writer = writer
        self.reader = reader
        self.cluster = who.cluster
        self.incarnation = who.incarnation
        self.epoch = who.epoch
        self._held = held

    async def close(self) -> None:
        """Commits what waits, closes every connection and frees the directory. May be called twice."""
        await self.reader.close()
        await self.writer.close()
        if self._held is not None:
            self._held.free()


async def open_store(url_or_path: str | Path, *, now: datetime) -> Store:
    """Opens the store in a data directory, or in PostgreSQL by URL, and makes or migrates it first.

    Raises StoreError: the directory is held by another process (which it names), lies on another machine, or was
    written by a newer release (migrate.NewerSchema); or StorageFull. `now` names the backup that a migration takes.
    """
    text = str(url_or_path)
    if text.startswith(POSTGRES):
        writer, reader, who = await postgres.open_database(text)
        return Store(writer=writer, reader=reader, who=who, held=None)
    return await _open_directory(Path(text.removeprefix("sqlite://")), now)


async def _open_directory(directory: Path, now: datetime) -> Store:
    place.prepare(directory)
    held = place.hold(directory)
    writer = reader = None
    try:
        sqlite.warn_of_old_library()
        path = directory / FILE
        await asyncio.to_thread(migrate.migrate_file, path, now)
        place.own(path)
        found: list[Identity] = []
        writer = Writer(_claiming(path, found.append))
        await writer.start()
        reader = await _sqlite_reader(path)
        return Store(writer=writer, reader=reader, who=found[0], held=held)
    # nothing is handled here: what was opened is closed again, and the caller is told
    except BaseException:
        if writer is not None and found:
            await writer.close()
        held.free()
        raise


def _claiming(path: Path, found: Callable[[Identity], None]) -> Callable[[], Group]:
    def connect() -> Group:
        connection = sqlite.connect(path)
        try:
            who = _claim(connection)
        except sqlite3.Error as error:
            connection.close()
            raise sqlite.translate(error) from error
        found(who)
        return Group(sqlite.SqliteConnection(connection), str(who.epoch))

    return connect


def _claim(connection: sqlite3.Connection) -> Identity:
    connection.execute("BEGIN IMMEDIATE")
    for row in identity.first_values(uuid.uuid4().hex):
        connection.execute(identity.ENSURE, row)
    connection.execute(identity.RAISE_EPOCH)
    connection.execute(identity.SET, (kohakuriver.__version__, "program"))
    who = identity.read_identity(dict(connection.execute(identity.READ).fetchall()))
    connection.execute("COMMIT")
    return who


async def _sqlite_reader(path: Path) -> Reader:
    settings = {
        "engine": "tortoise.backends.sqlite",
        "credentials": {"file_path": str(path), "journal_size_limit": sqlite.WAL_LIMIT, **sqlite.READER},
    }
    names = ("default", *(f"reader{number}" for number in range(1, READERS)))
    reader = await open_reader(dict.fromkeys(names, settings))
    try:
        for client in reader.clients:
            rows = {name: (await client.execute_query_dict(f"PRAGMA {name}"))[0] for name in sqlite.READER}
            sqlite.check_pragmas(sqlite.READER, {name: next(iter(row.values())) for name, row in rows.items()})
    except BaseException:
        await reader.close()
        raise
    return reader
