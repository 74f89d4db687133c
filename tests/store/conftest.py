"""Stores on real databases: SQLite in a directory, and a PostgreSQL server of the test run's own."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kohakuriver.store.models import NodeRow, TaskRow, UserRow
from kohakuriver.store.open import Store, open_store
from kohakuriver.store.write import Statement, insert

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_databases = count(1)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else Path(shutil.which("postgres") or "/").parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The directory of the sockets of a private cluster, run by an unprivileged account as PostgreSQL demands."""
    programs, directory = _programs(), Path(tempfile.mkdtemp(prefix="kr-postgres-", dir="/tmp"))
    account: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": directory}
    if os.geteuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
        account |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = directory / "data"
    subprocess.run([programs / "initdb", "-D", data, "-U", "river", "-A", "trust", "-N"], check=True, **account)
    options = f"-k {directory} -c listen_addresses='' -c fsync=off"
    subprocess.run(
        [programs / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", directory / "log", "-o", options, "start"],
        check=True,
        **account,
    )
    try:
        yield str(directory)
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], check=True, **account)
        shutil.rmtree(directory)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A new, empty database."""
    import asyncpg

    name = f"river{next(_databases)}"

    async def create() -> None:
        connection = await asyncpg.connect(f"postgresql://river@/postgres?host={postgres_server}")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return f"postgresql://river@/{name}?host={postgres_server}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store may be opened: a directory, and a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "data")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(place: str) -> AsyncIterator[Store]:
    """An open store with the person 1 and the node 1."""
    opened = await open_store(place, now=NOW)
    await opened.writer.write([person(1), node(1)])
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    """As `store`, in a file."""
    opened = await open_store(tmp_path / "data", now=NOW)
    await opened.writer.write([person(1), node(1)])
    yield opened
    await opened.close()


def person(id: int, **more: Any) -> Statement:
    values = {"id": id, "name": f"person{id}", "role": "user", "state": "active", "created": NOW, **more}
    return insert(UserRow, **values)


def node(id: int, **more: Any) -> Statement:
    values = {
        "id": id,
        "name": f"node{id}",
        "state": "active",
        "credential": f"c{id:09}",
        "credential_hash": "0" * 64,
        "created": NOW,
        **more,
    }
    return insert(NodeRow, **values)


def task_values(id: int, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "batch": id,
        "owner": 1,
        "kind": "command",
        "status": "pending",
        "wanted": "run",
        "spec": '{"argv":["true"]}',
        "submitted": NOW,
        **more,
    }


def task(id: int, **more: Any) -> Statement:
    return insert(TaskRow, **task_values(id, **more))


class Rows:
    """Statements for rows of which a test cares only for a few columns."""

    person = staticmethod(person)
    node = staticmethod(node)
    task = staticmethod(task)
    task_values = staticmethod(task_values)


@pytest.fixture
def rows() -> type[Rows]:
    return Rows


@pytest.fixture
def reopen() -> Callable[[str | Path], Any]:
    """Opens a store that the test closes itself, each time a second later."""
    seconds = count()

    def open_again(place: str | Path) -> Any:
        return open_store(place, now=NOW + timedelta(seconds=next(seconds)))

    return open_again
