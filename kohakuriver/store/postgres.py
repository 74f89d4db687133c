"""The store in PostgreSQL: the writer's connection and the readers. asyncpg is loaded only when a URL asks for it."""

import asyncio
import importlib
import logging
import re
import uuid
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tortoise.exceptions import BaseORMException

import kohakuriver
from kohakuriver.errors import KohakuRiverError, StorageFull, StoreError
from kohakuriver.store import identity
from kohakuriver.store.group import BatchFailed, Group
from kohakuriver.store.identity import Identity
from kohakuriver.store.migrate import pending_migrations, run_migrations, wanted_indexes
from kohakuriver.store.reader import Reader, open_reader, to_dollars
from kohakuriver.store.write import ConstraintFailed, Statement, Writer

log = logging.getLogger(__name__)
T = TypeVar("T")

#: key of the session lock that one host holds; "kohakuri" in ASCII
LOCK_KEY = 0x6B6F68616B757269
CONNECT_SECONDS = 10.0
#: longest wait for a row that another transaction holds, as SQLite's busy_timeout
LOCK_TIMEOUT = "5s"
READERS = 4
#: SQLSTATE of a full disk: https://www.postgresql.org/docs/current/errcodes-appendix.html
DISK_FULL = "53100"
_KINDS = {"23505": "unique", "23503": "foreign_key", "23502": "not_null", "23514": "check", "23P01": "unique"}


async def open_database(url: str) -> tuple[Writer, Reader, Identity]:
    """Takes the database for this host, brings its schema up to date and opens it.

    Raises StoreError: it does not answer, another host holds it, or a newer release wrote it.
    """
    asyncpg = _asyncpg()
    found: list[Identity] = []
    await _migrate(url, asyncpg)
    writer = Writer(_claiming(url, asyncpg, found.append))
    await writer.start()
    try:
        reader = await open_reader({"default": settings(url, read_only=True)})
        await reader.rows("SELECT 1 AS one", [])
    except BaseException:
        await writer.close()
        raise
    return writer, reader, found[0]


def settings(url: str, *, read_only: bool, most: int = READERS) -> dict[str, Any]:
    """The URL as tortoise takes it. `?host=` names a directory of sockets, as libpq has it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    server = {"application_name": "kohakuriver", "search_path": "public"}
    if read_only:
        server["default_transaction_read_only"] = "on"
    return {
        "engine": "tortoise.backends.asyncpg",
        "credentials": {
            "host": query.get("host") or parts.hostname or "localhost",
            "port": int(query.get("port") or parts.port or 5432),
            "user": unquote(parts.username or "") or query.get("user"),
            "password": unquote(parts.password) if parts.password else query.get("password"),
            "database": unquote(parts.path.lstrip("/")),
            "minsize": 1,
            "maxsize": most,
            "server_settings": server,
        },
    }


async def _migrate(url: str, asyncpg: Any) -> None:
    """Runs what is pending. PostgreSQL undoes a failed migration whole, so there is no copy as for a file."""
    connection = await _connected(asyncpg.connect(url, timeout=CONNECT_SECONDS))
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY + 1)
        applied: set[str] = set()
        program = ""
        if await connection.fetchval("SELECT to_regclass('tortoise_migrations')"):
            rows = await connection.fetch("SELECT name FROM tortoise_migrations WHERE app = 'store'")
            applied = {row["name"] for row in rows}
        if await connection.fetchval("SELECT to_regclass('meta')"):
            program = await connection.fetchval("SELECT value FROM meta WHERE key = 'program'") or ""
        pending = pending_migrations(applied, program, "the database")
        if pending:
            try:
                await run_migrations(settings(url, read_only=False, most=2))
                for statement in wanted_indexes():
                    await connection.execute(statement)
            except (BaseORMException, asyncpg.PostgresError) as error:
                raise StoreError(f"the database could not be migrated to schema {pending[-1]}: {error}") from error
            log.info("migrated", extra={"action": "store_migrate", "migrations": pending})
    finally:
        await connection.close()


def _claiming(url: str, asyncpg: Any, found: Callable[[Identity], None]) -> Callable[[], Group]:
    def connect() -> Group:
        connection = PostgresConnection(url, asyncpg)
        try:
            who = connection.claim()
        except BaseException:
            connection.close()
            raise
        found(who)
        return Group(connection, str(who.epoch))

    return connect


class PostgresConnection:
    """`group.Connection` over asyncpg, on a loop of its own in the writer's thread. Reconnects after a loss."""

    def __init__(self, url: str, asyncpg: Any) -> None:
        self._url = url
        self._asyncpg = asyncpg
        self._errors = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
        self._runner = asyncio.Runner()
        self._connection: Any = None

    def claim(self) -> Identity:
        """Takes the store: raises its epoch, and makes what is there only once."""
        self._ensure()
        connection = self._connection

        async def claim() -> Identity:
            async with connection.transaction():
                for row in identity.first_values(uuid.uuid4().hex):
                    await connection.execute(to_dollars(identity.ENSURE), *row)
                await connection.execute(identity.RAISE_EPOCH)
                await connection.execute(to_dollars(identity.SET), kohakuriver.__version__, "program")
                rows = await connection.fetch(identity.READ)
            return identity.read_identity({row["key"]: row["value"] for row in rows})

        return self._run(claim())

    def begin(self) -> str:
        try:
            self._ensure()
            self._run(self._connection.execute("BEGIN"))
            # held against a host that takes over, until our commit
            epoch = self._run(self._connection.fetchval("SELECT value FROM meta WHERE key = 'epoch' FOR SHARE"))
        except StoreError as error:
            raise BatchFailed(error) from error
        except self._errors as error:
            raise BatchFailed(_translate(error)) from error
        return str(epoch or "none")

    def mark(self) -> None:
        self._all("SAVEPOINT member")

    def release(self) -> None:
        self._all("RELEASE SAVEPOINT member")

    def back_to_mark(self) -> None:
        self._all("ROLLBACK TO SAVEPOINT member")

    def execute(self, statement: Statement) -> int:
        if not statement.rows:
            return 0
        sql = _numbered(statement.sql)
        try:
            if statement.many:
                self._run(self._connection.executemany(sql, statement.rows))
                return len(statement.rows)
            return _count(self._run(self._connection.execute(sql, *statement.rows[0])))
        except self._asyncpg.IntegrityConstraintViolationError as error:
            raise _constraint(error, statement) from error
        except self._errors as error:
            translated = _translate(error)
            if isinstance(translated, StorageFull) or self._connection.is_closed():
                raise BatchFailed(translated) from error
            raise StoreError(f"{statement.what}: {error}") from error

    def commit(self) -> None:
        self._all("COMMIT")

    def rollback(self) -> None:
        if self._connection is None or self._connection.is_closed():
            return
        try:
            if self._connection.is_in_transaction():
                self._run(self._connection.execute("ROLLBACK"))
        except self._errors:
            log.warning("rollback failed; connecting anew", extra={"action": "store_rollback"})
            self._connection.terminate()

    def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            try:
                self._run(self._connection.close(timeout=CONNECT_SECONDS))
            except self._errors as error:
                log.warning("closing failed: %s", error, extra={"action": "store_close"})
        self._runner.close()

    def _ensure(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = self._run(_connected(self._connect()))

    async def _connect(self) -> Any:
        connection = await self._asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            server_settings={
                "application_name": "kohakuriver writer",
                "synchronous_commit": "on",
                "lock_timeout": LOCK_TIMEOUT,
            },
        )
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
            await connection.close()
            raise StoreError("another host holds the database; stop it first")
        return connection

    def _all(self, sql: str) -> None:
        try:
            self._run(self._connection.execute(sql))
        except self._errors as error:
            raise BatchFailed(_translate(error)) from error

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)


def _count(status: str) -> int:
    """The rows of a status line: `INSERT 0 1`, `UPDATE 3`."""
    return int(status.rpartition(" ")[2])


async def _connected(coroutine: Coroutine[Any, Any, T]) -> T:
    """The connection, or StoreError when the database does not answer or lets nobody in."""
    try:
        return await coroutine
    except StoreError:
        raise
    except (OSError, TimeoutError) as error:
        raise StoreError(f"the database does not answer: {error}; check the URL and that it runs") from error
    except _asyncpg().PostgresError as error:
        raise StoreError(f"the database refused the connection: {error}") from error


@cache
def _numbered(sql: str) -> str:
    return to_dollars(sql)


def _asyncpg() -> Any:
    try:
        return importlib.import_module("asyncpg")
    except ImportError:
        raise StoreError("PostgreSQL needs the extra: install kohakuriver[postgres]") from None


def _translate(error: BaseException) -> KohakuRiverError:
    if getattr(error, "sqlstate", "") == DISK_FULL:
        return StorageFull("the disk of the database is full; nothing was stored; free space and try again")
    return StoreError(f"the database failed: {error}")


def _constraint(error: Any, statement: Statement) -> ConstraintFailed:
    columns = re.match(r"Key \(([^)]*)\)", error.detail or "")
    named = columns[1] if columns else error.column_name or ""
    return ConstraintFailed(
        f"{statement.what}: {error}",
        kind=_KINDS.get(error.sqlstate, "check"),
        table=error.table_name or "",
        columns=tuple(part.strip().strip('"') for part in named.split(",") if part),
    )
