"""The journal and its file: one owner, whole commits, nothing lost, nothing half."""

import asyncio
import os
import sqlite3
import stat

import pytest

from kohakuriver.errors import ConfigError, StorageFull, StoreError
from kohakuriver.hooks.values import Handle
from kohakuriver.runner.database import Database
from kohakuriver.runner.entry import Entry
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.outbox import WINDOW, WINDOW_BYTES, Line, Outbox
from kohakuriver.wire.link import Assign, Report, WireReserved


def entry(attempt="7.1", **fields):
    assign = Assign(attempt=attempt, instance=attempt, owner="ann", argv=["x"], reserved=WireReserved(cpu_milli=500))
    return Entry(
        **{"attempt": attempt, "instance": attempt, "backend": "fake", "assign": assign, "boot": "b1", **fields}
    )


def report(what, attempt="7.1"):
    return Report(seq=0, attempt=attempt, what=what)


@pytest.fixture
async def journal(tmp_path):
    found = await Journal(tmp_path / "node").open(epoch=5)
    yield found
    await found.close()


async def reopened(journal):
    await journal.close()
    return await Journal(journal.directory).open(epoch=99)


async def test_everything_is_there_again_after_reopening(journal):
    await journal.add(entry(), report("accepted"))
    handle = Handle(backend="fake", data={"id": "abc"})
    await journal.change("7.1", report("started"), phase="running", handle=handle, run="r1", started=12.5)
    await journal.remember(cluster="c", incarnation=3)
    before = journal.attempts["7.1"]
    again = await reopened(journal)
    assert again.attempts == {"7.1": before}
    assert (again.epoch, again.cluster, again.incarnation, again.last_seq) == (5, "c", 3, 2)
    assert [again.outbox.next().seq, again.outbox.next().seq, again.outbox.next()] == [1, 2, None]
    assert b"started" in await again.payload(2)
    await again.close()


async def test_a_number_is_never_given_out_twice_though_no_report_is_left(journal):
    await journal.add(entry(), report("accepted"))
    await journal.change("7.1", report("started"), phase="running")
    await journal.acknowledge(2)
    await journal.acknowledge(1)
    again = await reopened(journal)
    assert (again.last_seq, len(again.outbox)) == (2, 0)
    await again.change("7.1", report("paused"), phase="paused")
    third = await reopened(again)
    assert (third.last_seq, third.outbox.next().seq) == (3, 3)
    await third.close()


async def test_another_boot_begins_an_epoch_for_its_newest_numbers_may_be_missing(journal):
    await journal.wake_in("b1")
    await journal.add(entry(), report("accepted"))
    await journal.wake_in("b1")
    assert journal.epoch == 5
    again = await reopened(journal)
    await again.wake_in("b2")
    assert (again.epoch, again.last_seq, again.outbox.next().seq) == (6, 1, 1)
    same = await reopened(again)
    await same.wake_in("b2")
    assert same.epoch == 6
    await same.close()


async def test_what_did_not_wait_for_the_disk_outlives_the_process(journal):
    await journal.add(entry(), report("accepted"))
    await journal.change("7.1", report("started"), sync=False, phase="running", run="r1")
    # as another process would see the file after a kill: committed, though nobody brought it to the disk
    other = sqlite3.connect(f"file:{journal.directory / 'runner.db'}?mode=ro", uri=True)
    assert other.execute("SELECT phase, run FROM attempts").fetchall() == [("running", "r1")]
    assert other.execute("SELECT count(*) FROM outbox").fetchall() == [(2,)]
    other.close()


async def test_only_what_asks_for_it_waits_for_the_disk(tmp_path):
    database = Database(tmp_path / "x.db")
    await database.open(["CREATE TABLE IF NOT EXISTS t(a INTEGER)"], 1)
    for sync, level in ((True, 2), (False, 1), (True, 2)):
        await database.write([("INSERT INTO t VALUES(1)", ())], sync=sync)
        seen = []
        await database.write([("INSERT INTO t SELECT synchronous FROM pragma_synchronous", ())], sync=sync)
        seen += await database.read("SELECT a FROM t ORDER BY rowid DESC LIMIT 1")
        assert seen == [(level,)]
    await database.close()


async def test_numbers_are_never_given_out_again_even_when_all_were_acknowledged(journal):
    await journal.add(entry(), report("accepted"))
    await journal.acknowledge(1)
    again = await reopened(journal)
    await again.change("7.1", report("started"))
    assert again.outbox.next().seq == 2
    await again.close()


async def test_a_cancelled_caller_gives_up_the_answer_and_not_the_write(journal):
    await journal.add(entry())
    task = asyncio.get_running_loop().create_task(journal.change("7.1", report("started"), phase="running"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await journal.change("7.1", run="r1")
    assert (journal.attempts["7.1"].phase, journal.attempts["7.1"].run) == ("running", "r1")
    assert len(journal.outbox) == 1


async def test_many_callers_share_commits_and_keep_their_order(journal):
    await asyncio.gather(*(journal.add(entry(f"{n}.1"), report("accepted", f"{n}.1")) for n in range(500)))
    assert len(journal.attempts) == 500
    seqs = []
    while (line := journal.outbox.next()) is not None:
        seqs.append(line.seq)
    assert seqs == list(range(1, WINDOW + 1))


async def test_two_writers_of_different_columns_do_not_undo_each_other(journal):
    await journal.add(entry())
    await asyncio.gather(
        journal.change("7.1", wanted="killed", revision=4), journal.change("7.1", phase="running", run="r1")
    )
    found = journal.attempts["7.1"]
    assert (found.wanted, found.revision, found.phase, found.run) == ("killed", 4, "running", "r1")
    again = await reopened(journal)
    assert again.attempts["7.1"] == found
    await again.close()


async def test_the_closing_report_is_kept_with_the_row(journal):
    await journal.add(entry(), report("accepted"))
    assert await journal.final("7.1") is None
    await journal.change("7.1", report("exited"), phase="exited")
    await journal.acknowledge(2)
    assert (await journal.final("7.1")).what == "exited"


async def test_only_one_process_holds_the_directory(journal):
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        await Journal(journal.directory).open(epoch=1)


async def test_the_directory_and_its_files_are_private(journal):
    assert stat.S_IMODE(journal.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((journal.directory / "runner.db").stat().st_mode) == 0o600


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    directory = tmp_path / "node"
    directory.mkdir()
    connection = sqlite3.connect(directory / "runner.db")
    connection.execute("PRAGMA user_version=77")
    connection.close()
    with pytest.raises(StoreError, match="newer program"):
        await Journal(directory).open(epoch=1)
    connection = sqlite3.connect(directory / "runner.db")
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    directory = tmp_path / "node"
    directory.mkdir()
    (directory / "runner.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"runner\.db"):
        await Journal(directory).open(epoch=1)


async def test_one_bad_member_does_not_spoil_the_others(tmp_path):
    database = Database(tmp_path / "x.db")
    await database.open(["CREATE TABLE t(a INTEGER PRIMARY KEY)"], 1)
    results = await asyncio.gather(
        *(database.write([("INSERT INTO t VALUES(?)", (n % 4,))]) for n in range(6)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None)] * 4 + [StoreError] * 2
    assert await database.read("SELECT count(*) FROM t") == [(4,)]
    await database.close()


async def test_a_full_file_fails_its_callers_and_heals(tmp_path):
    database = Database(tmp_path / "x.db")
    await database.open(["CREATE TABLE t(a BLOB)"], 1)
    pages = (await database.read("PRAGMA page_count"))[0][0]
    await database.read(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StorageFull):
        await database.write([("INSERT INTO t VALUES(zeroblob(100000))", ())])
    await database.read("PRAGMA max_page_count=100000")
    await database.write([("INSERT INTO t VALUES(zeroblob(100000))", ())])
    assert await database.read("SELECT count(*) FROM t") == [(1,)]
    await database.close()


async def test_what_waits_is_written_before_the_file_is_closed(tmp_path):
    database = Database(tmp_path / "x.db")
    await database.open(["CREATE TABLE t(a)"], 1)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(database.write([("INSERT INTO t VALUES(?)", (number,))]))
        await asyncio.sleep(0)
        await database.close()
    connection = sqlite3.connect(tmp_path / "x.db")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (50,)
    connection.close()
    with pytest.raises(StoreError, match="closed"):
        await database.write([])


def filled(count, size=10):
    outbox = Outbox()
    for seq in range(1, count + 1):
        outbox.append(seq, f"{seq % 3}.1", b"x" * size)
    return outbox


def drain(outbox):
    seqs = []
    while (line := outbox.next()) is not None:
        seqs.append(line.seq)
    return seqs


def test_the_window_opens_with_acknowledgements():
    outbox = filled(WINDOW + 10)
    assert drain(outbox) == list(range(1, WINDOW + 1))
    outbox.acknowledge(4)
    assert drain(outbox) == [WINDOW + 1, WINDOW + 2, WINDOW + 3, WINDOW + 4]


def test_the_window_counts_bytes_too():
    outbox = filled(10, WINDOW_BYTES // 2)
    assert drain(outbox) == [1, 2]


def test_a_new_session_begins_with_the_first_that_is_not_acknowledged():
    outbox = filled(5)
    drain(outbox)
    outbox.acknowledge(2)
    outbox.acknowledge(2)
    outbox.rewind()
    assert drain(outbox) == [3, 4, 5]


def test_an_attempt_waits_until_its_last_report_is_acknowledged():
    outbox = filled(5)
    outbox.acknowledge(3)
    assert outbox.waits("1.1")
    outbox.acknowledge(4)
    assert (outbox.waits("1.1"), outbox.waits("2.1")) == (False, True)


def test_it_is_full_by_rows_and_by_bytes(monkeypatch):
    monkeypatch.setattr("kohakuriver.runner.outbox.MOST_ROWS", 5)
    assert (filled(4).full, filled(5).full) == (False, True)
    outbox = Outbox()
    outbox.load(Line(seq=1, attempt="1.1", size=2**26))
    assert outbox.full


def test_only_the_cached_part_stays_in_memory(monkeypatch):
    monkeypatch.setattr("kohakuriver.runner.outbox.MOST_CACHED", 25)
    outbox = filled(5)
    assert [outbox.cached(seq) is not None for seq in range(1, 6)] == [True, True, False, False, False]
    outbox.acknowledge(1)
    outbox.append(6, "1.1", b"x" * 10)
    assert outbox.cached(6) is not None
