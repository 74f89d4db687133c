"""The fence around migrations: a store with rows in it, and next releases of every kind."""

import asyncio
import contextlib
import importlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector

from kohakuriver.errors import StoreError
from kohakuriver.store import migrate, migrations
from kohakuriver.store.accounts import user_by_id
from kohakuriver.store.columns import indexes_of
from kohakuriver.store.models import MODELS, PARTIAL_UNIQUE, EventRow, IdentityRow, TaskRow, UserRow
from kohakuriver.store.nodes import all_nodes
from kohakuriver.store.open import FILE
from kohakuriver.store.reader import APPS
from kohakuriver.store.tasks import load_task
from kohakuriver.store.write import Statement, insert

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

NEXT = """
    import os, signal
    from tortoise import fields, migrations
    from tortoise.migrations import operations as ops

    async def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    class Migration(migrations.Migration):
        dependencies = [("store", "{last}")]
        operations = [{operations}]
"""
#: a parent with children, and a table with indexes: both are rebuilt by tortoise on SQLite
REBUILD = (
    'ops.AlterField(model_name="UserRow", name="display", field=fields.TextField(null=True)),'
    'ops.AlterField(model_name="TaskRow", name="kind", field=fields.CharField(max_length=32)),'
    'ops.AddField(model_name="NodeRow", name="place", field=fields.TextField(null=True)),'
)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Makes this program a later one, whose newest migration has the given operations."""
    package = tmp_path / "river_next_migrations"

    def become(operations: str | None) -> None:
        if operations is None:
            monkeypatch.setitem(APPS["store"], "migrations", migrations.__name__)
            return
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        for one in sorted(Path(migrations.__path__[0]).glob("0*.py")):
            (package / one.name).write_text(one.read_text())
            last = one.stem
        (package / "9999_next.py").write_text(textwrap.dedent(NEXT).format(operations=operations, last=last))
        for name in [name for name in sys.modules if name.startswith(package.name)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        monkeypatch.setitem(APPS["store"], "migrations", package.name)

    monkeypatch.syspath_prepend(tmp_path)
    yield become
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


@pytest.fixture
async def filled(place, reopen, rows):
    """A closed store with rows in parents and children; returns where it is."""
    store = await reopen(place)
    identities = [insert(IdentityRow, id=n, user=n, provider="local", subject=f"s{n}") for n in range(1, 6)]
    events = [insert(EventRow, id=n, at=NOW, what="x", actor="t", task=n) for n in range(1, 8)]
    tasks = [rows.task(n, owner=1 + n % 5, name=f"t{n}") for n in range(100, 130)]
    people = [rows.person(n, display=f"Person {n}") for n in range(1, 6)]
    await store.writer.write([*people, *identities, rows.node(1), *tasks, *events])
    await store.close()
    return place


async def contents(store):
    people = await store.reader.of(UserRow).order_by("id").values("id", "name", "display")
    identities = await store.reader.of(IdentityRow).order_by("id").values()
    tasks = await store.reader.of(TaskRow).order_by("id").values()
    return people, identities, tasks, await store.reader.of(EventRow).count()


async def kept(place, reopen):
    store = await reopen(place)
    found = await contents(store)
    await store.close()
    return found


async def test_rows_references_and_indexes_survive_a_rebuild(filled, reopen, release):
    before = await kept(filled, reopen)
    release(REBUILD)
    assert await kept(filled, reopen) == before
    assert [len(part) for part in before[:3]] == [5, 5, 30]
    assert await kept(filled, reopen) == before
    if not filled.startswith("postgresql"):
        connection = sqlite3.connect(Path(filled) / FILE)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert connection.execute("SELECT place FROM nodes").fetchall() == [(None,)]
        connection.close()
        wanted = {index.name for model in MODELS for index in indexes_of(model)} | {one.name for one in PARTIAL_UNIQUE}
        assert wanted <= names


FIRST_ROWS = (
    "INSERT INTO users (id, name, display, role, state, created) VALUES (1, 'ada', '', 'user', 'active', 0)",
    (
        "INSERT INTO nodes (id, name, state, credential, credential_hash, draining, drain_reason, labels, cells, backends,"
        " epoch, boot, version, acknowledged, allocation, created)"
        " VALUES (1, 'node1', 'active', 'c1', '0', FALSE, '', '{}', '[]', '[]', 0, '', '', 0, 0, 0)"
    ),
    (
        "INSERT INTO tasks (id, batch, owner_id, kind, status, wanted, wish, version, generation, spec, cores, devices,"
        " priority, submitted) VALUES (7, 7, 1, 'command', 'pending', 'run', 0, 0, 0, '{}', 1, 0, 0, 0)"
    ),
)


async def test_rows_of_the_first_release_get_values_that_are_true_of_them(place, reopen, release, tmp_path):
    release("")
    (tmp_path / "river_next_migrations" / "9999_next.py").unlink()
    for one in (tmp_path / "river_next_migrations").glob("0*.py"):
        if not one.name.startswith("0001"):
            one.unlink()
    store = await reopen(place)
    await store.writer.write([Statement(sql, ((),), 1, "a row of old") for sql in FIRST_ROWS])
    await store.close()
    release(None)
    store = await reopen(place)
    task, user, (node,) = (
        await load_task(store.reader, 7),
        await user_by_id(store.reader, 1),
        await all_nodes(store.reader),
    )
    await store.close()
    assert (task.ready, task.retried, task.status) == (None, 0, "pending")
    assert (user.most_running, user.most_cores, user.most_memory, user.most_devices) == (None, None, None, None)
    assert node.cordons == {}


async def test_a_backup_is_taken_before_and_opens(tmp_path, reopen, release):
    place = tmp_path / "data"
    await (await reopen(place)).close()
    assert not (place / "backups").exists()
    release(REBUILD)
    await (await reopen(place)).close()
    (backup,) = (place / "backups").iterdir()
    assert backup.name.startswith("before-9999_next-2026")
    assert backup.stat().st_mode & 0o777 == 0o600
    (tmp_path / "old").mkdir()
    backup.rename(tmp_path / "old" / FILE)
    release(None)
    await (await reopen(tmp_path / "old")).close()


@pytest.mark.parametrize(
    ("operations", "told"),
    [
        ('ops.RunSQL("DELETE FROM events")', "left 0 of 7 rows in events"),
        ('ops.RunSQL("UPDATE tasks SET name = NULL")', "emptied tasks.name"),
        ('ops.RunSQL("DELETE FROM users WHERE id = 2")', "broke 7 references"),
        ('ops.RunSQL("SELECT broken")', "could not be migrated"),
    ],
)
async def test_a_migration_that_loses_something_changes_nothing(tmp_path, reopen, rows, release, operations, told):
    place = str(tmp_path / "data")
    store = await reopen(place)
    tasks = [rows.task(n, owner=1 + n % 5, name=f"t{n}") for n in range(100, 130)]
    people = [rows.person(n) for n in range(1, 6)]
    identity = insert(IdentityRow, id=1, user=2, provider="local", subject="s")
    events = [insert(EventRow, id=n, at=NOW, what="x", actor="t") for n in range(1, 8)]
    await store.writer.write([*people, identity, *tasks, *events])
    before = await contents(store)
    await store.close()
    release(operations)
    with pytest.raises(StoreError, match=told):
        await reopen(place)
    release(None)
    assert await kept(place, reopen) == before
    assert not list(Path(place).glob("*.migrating*"))


async def test_an_older_program_is_refused_after_the_migration(filled, reopen, release):
    release(REBUILD)
    await (await reopen(filled)).close()
    release(None)
    with pytest.raises(migrate.NewerSchema, match=rf"9999_next .* {migrate.known_migrations()[-1]}"):
        await reopen(filled)


DIE = """
    import asyncio, sys
    from datetime import UTC, datetime
    from kohakuriver.store.open import open_store
    from kohakuriver.store.reader import APPS

    APPS["store"]["migrations"] = sys.argv[2]
    asyncio.run(open_store(sys.argv[1], now=datetime.now(UTC)))
"""


async def test_a_kill_in_the_middle_leaves_the_old_store_whole(filled, reopen, release, tmp_path):
    before = await kept(filled, reopen)
    release(f"{REBUILD} ops.RunPython(die)")
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DIE), filled, "river_next_migrations"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    release(None)
    assert await kept(filled, reopen) == before
    release(REBUILD)
    assert await kept(filled, reopen) == before


async def test_a_file_that_another_program_has_open_is_not_replaced(tmp_path, reopen, release):
    place = tmp_path / "data"
    await (await reopen(place)).close()
    other = sqlite3.connect(place / FILE, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM meta").fetchall()
    writing = sqlite3.connect(place / FILE, isolation_level=None)
    writing.execute("UPDATE meta SET value = 'x' WHERE key = 'program'")
    release(REBUILD)
    with pytest.raises(StoreError, match="open in another program"):
        await reopen(place)
    with contextlib.closing(other), contextlib.closing(writing):
        other.execute("COMMIT")
    await (await reopen(place)).close()


def test_the_migrations_say_what_the_models_say(tmp_path):
    async def changes():
        async with TortoiseContext() as context:
            config = {"connections": {"default": f"sqlite://{tmp_path}/none.sqlite3"}, "apps": APPS}
            await context.init(config=config)
            return await MigrationAutodetector(context.apps, APPS).changes()

    assert asyncio.run(changes()) == []
