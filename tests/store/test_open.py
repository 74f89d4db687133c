"""Opening a store in a file: one holder, the settings that were asked for, nothing lost by a death or a full disk."""

import asyncio
import contextvars
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tortoise.exceptions import BaseORMException

from kohakuriver.errors import StorageFull, StoreError
from kohakuriver.store import place as places
from kohakuriver.store import sqlite
from kohakuriver.store.migrate import NewerSchema
from kohakuriver.store.models import EventRow, MetaRow, TaskRow
from kohakuriver.store.open import FILE
from kohakuriver.store.write import delete, insert, update


async def test_the_cluster_stays_and_the_epoch_rises(place, reopen):
    first = await reopen(place)
    await first.close()
    second = await reopen(place)
    await second.close()
    assert (second.cluster, second.incarnation, second.epoch) == (first.cluster, 1, first.epoch + 1)
    assert len(first.cluster) == 32


async def test_a_directory_is_held_once(tmp_path, reopen):
    store = await reopen(tmp_path / "data")
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        await reopen(tmp_path / "data")
    await store.close()
    await (await reopen(tmp_path / "data")).close()


@pytest.mark.postgres
async def test_a_database_is_held_once(postgres_url, reopen):
    store = await reopen(postgres_url)
    with pytest.raises(StoreError, match="another host holds"):
        await reopen(postgres_url)
    await store.close()
    await (await reopen(postgres_url)).close()


@pytest.mark.postgres
async def test_a_database_that_does_not_answer_is_an_error_in_words(tmp_path, reopen):
    with pytest.raises(StoreError, match="does not answer"):
        await reopen(f"postgresql://river@/nowhere?host={tmp_path}")


@pytest.mark.postgres
async def test_the_writer_finds_its_database_again(postgres_url, postgres_server, reopen, rows):
    import asyncpg

    store = await reopen(postgres_url)
    other = await asyncpg.connect(f"postgresql://river@/postgres?host={postgres_server}")
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kohakuriver writer'"
    )
    await other.close()
    with pytest.raises(StoreError):
        await store.writer.write([rows.person(1)])
    assert await store.writer.write([rows.person(1)]) == (1,)
    await store.close()


async def test_only_the_owner_may_look(tmp_path, reopen):
    store = await reopen(tmp_path / "data")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir() if path.is_file()}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {FILE, places.LOCK} <= set(modes)
    assert set(modes.values()) == {0o600}
    await store.close()


async def test_settings_are_read_back(tmp_path, monkeypatch, reopen):
    monkeypatch.setitem(sqlite.WRITER, "journal_size_limit", "-7")
    with pytest.raises(StoreError, match="did not take journal_size_limit"):
        await reopen(tmp_path / "data")
    monkeypatch.undo()
    monkeypatch.setitem(sqlite.READER, "synchronous", "9")
    with pytest.raises(StoreError, match="did not take synchronous"):
        await reopen(tmp_path / "data")
    monkeypatch.undo()
    await (await reopen(tmp_path / "data")).close()


async def test_readers_cannot_write(store, rows):
    with pytest.raises(BaseORMException, match=r"readonly|read-only"):
        await store.reader.of(MetaRow).filter(key="epoch").update(value="7")
    assert (await store.reader.of(MetaRow).get(key="epoch")).value == str(store.epoch)


async def test_a_read_in_a_task_that_knows_of_no_store(store, rows):
    await store.writer.write([rows.task(10, name="x")])

    async def ask():
        return await store.reader.of(TaskRow).filter(name="x").count()

    assert await asyncio.get_running_loop().create_task(ask(), context=contextvars.Context()) == 1


async def test_a_foreign_file_system_is_refused(tmp_path, monkeypatch, reopen):
    monkeypatch.setattr(places, "file_system", lambda _path: 0x6969)
    with pytest.raises(StoreError, match="lies on NFS"):
        await reopen(tmp_path / "data")


def test_the_kernel_names_the_file_system():
    assert places.file_system(Path("/proc")) == 0x9FA0


async def test_a_file_of_something_else_is_left_alone(tmp_path, reopen):
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / FILE)
    other.execute("CREATE TABLE something (id)")
    other.close()
    with pytest.raises(StoreError, match="something else"):
        await reopen(tmp_path / "data")
    (tmp_path / "data" / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await reopen(tmp_path / "data")


async def test_a_newer_schema_is_refused_naming_both_versions(place, reopen, monkeypatch):
    store = await reopen(place)
    await store.writer.write([update(MetaRow, where={"key": "program"}, set={"value": "7.3"})])
    await store.close()
    monkeypatch.setattr("kohakuriver.store.migrate.known_migrations", lambda: ("0000_before",))
    with pytest.raises(NewerSchema, match=r"000\d_\w+ of kohakuriver 7\.3, but this is kohakuriver .*0000_before"):
        await reopen(place)


WRITE_FOR_EVER = """
    import asyncio, sys
    from datetime import UTC, datetime
    from kohakuriver.store.models import EventRow
    from kohakuriver.store.open import open_store
    from kohakuriver.store.write import insert

    NOW = datetime.now(UTC)

    async def client(store, first):
        for id in range(first, first + 10**6):
            await store.writer.write([insert(EventRow, id=id, at=NOW, what="x", actor="t")])
            print(id, flush=True)

    async def main():
        store = await open_store(sys.argv[1], now=NOW)
        await asyncio.gather(*(client(store, int(sys.argv[2]) + n * 10**6) for n in range(8)))

    asyncio.run(main())
"""


async def test_a_kill_loses_no_acknowledged_row(place, reopen):
    acknowledged: set[int] = set()
    for turn, lines in enumerate((20, 150, 400)):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITE_FOR_EVER), place, str((turn + 1) * 10**8)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            heard = [process.stdout.readline() for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            # whole lines only: the last may have been cut off by the kill
            heard += [line for line in process.stdout if line.endswith("\n")]
        assert all(heard)
        acknowledged |= set(map(int, heard))
    store = await reopen(place)
    stored = {row["id"] for row in await store.reader.of(EventRow).values("id")}
    await store.close()
    assert len(acknowledged) >= 570
    assert acknowledged <= stored


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.mark.root
async def test_a_full_disk_fails_closed_and_heals(small_disk, reopen):
    store = await reopen(small_disk / "data")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 3_000_000)
    acknowledged: set[int] = set()
    refused: set[int] = set()

    async def call(id):
        try:
            await store.writer.write([insert(EventRow, id=id, at=0, what="x", actor="t", detail="y" * 20_000)])
            acknowledged.add(id)
        except StorageFull:
            refused.add(id)

    for start in range(1, 400, 8):
        await asyncio.gather(*(call(id) for id in range(start, start + 8)))
    assert acknowledged
    assert len(refused) > 8
    filler.unlink()
    await call(1000)
    assert 1000 in acknowledged
    stored = {row["id"] for row in await store.reader.of(EventRow).values("id")}
    assert stored == acknowledged
    await store.writer.write([delete(EventRow, where={"id__in": sorted(stored)}, expect=len(stored))])
    await store.close()


@pytest.mark.root
async def test_a_disk_that_was_full_from_the_start_says_so(small_disk, reopen):
    (small_disk / "filler").write_bytes(b"x" * 6 * 1024 * 1024)
    with pytest.raises(StorageFull, match="free space"):
        await reopen(small_disk / "data")
    (small_disk / "filler").unlink()
    await (await reopen(small_disk / "data")).close()
