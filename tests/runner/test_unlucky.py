"""Two things that happen in the wrong moment: neither is done twice, forgotten or said too early."""

import asyncio
import functools
import sqlite3

import pytest

from kohakuriver.errors import StorageFull, StoreError
from kohakuriver.hooks.values import Job
from kohakuriver.runner.database import Database
from kohakuriver.runner.entry import Entry
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.lease import OUTLIVED, Lease
from kohakuriver.testing.fakes import FakeBackend, FakeBody
from kohakuriver.wire.link import Assign, Dial, DialFailed, Hello, Inventory, Refresh, WireReserved

PATIENCE = 30.0


async def test_two_fenced_assignments_at_once_do_not_exceed_the_node_together(lab, peer):
    journal = lab.make().journal
    keep, both = journal.keep_contact, asyncio.Barrier(2)

    async def late(boot, seconds):
        if not both.broken and journal.attempts.keys().isdisjoint({"7.1", "8.1"}):
            async with asyncio.timeout(PATIENCE):
                await both.wait()
        await keep(boot, seconds)

    await lab.start()
    journal.keep_contact = late
    asked = WireReserved(cpu_milli=3000)
    await peer.assign("7.1", "sleep", lease=30.0, reserved=asked)
    await peer.assign("8.1", "sleep", lease=30.0, reserved=asked)
    await peer.until(lambda: peer.of("7.1") and peer.of("8.1"))
    assert sorted([peer.words("7.1")[0], peer.words("8.1")[0]]) == ["accepted", "refused_for_now"]


async def test_what_is_said_during_the_greeting_waits_for_its_end(lab, peer):
    def meanwhile(hello):
        lab.runner.link.send(DialFailed(ticket="t1", reason="the session before"))
        lab.runner.link.send(Refresh(cells=lab.cells))
        return peer.welcome(hello)

    peer.on_hello = meanwhile
    await lab.start()
    await peer.message(DialFailed)
    await peer.message(Refresh)
    assert [type(message) for message in peer.received[:2]] == [Hello, Inventory]


async def test_a_ticket_that_cannot_be_shown_is_told_and_takes_nobody_down(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.send(Dial(ticket="\u2603", attempt="7.1", kind="output"))
    assert (await peer.message(DialFailed)).ticket == "\u2603"
    await peer.assign("8.1", "say", "", "", "0")
    await peer.report("8.1", "exited")


async def test_a_body_that_was_removed_after_it_was_found_is_not_taken_in(lab, peer):
    looked = asyncio.Event()

    class Late(FakeBackend):
        async def found(self):
            return [("99.1", self._handle("99.1")), ("98.1", self._handle("98.1"))]

        async def see(self, handle):
            looked.set()
            return await super().see(handle)

    lab.kind = Late
    job = Job(instance="98.1", attempt="98.1", owner="ann", argv=("sleep",), directory=lab.path)
    lab.world.bodies["98.1"] = FakeBody(job=job)
    await lab.start()
    await looked.wait()
    await peer.report("98.1", "recovered")
    assert ("99.1" in lab.entries, peer.words("99.1")) == (False, [])


async def test_what_a_full_disk_kept_from_being_forgotten_is_forgotten_later(lab, peer):
    journal = lab.make().journal
    remove, refused = journal.remove, []

    async def full(*attempts):
        if not refused:
            refused.extend(attempts)
            raise StorageFull("the journal cannot be written")
        await remove(*attempts)

    journal.remove = full
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    await lab.passing(lambda: refused and not lab.entries)
    assert (refused, len(peer.hellos)) == (["7.1"], 1)


async def test_an_attempt_that_is_forgotten_while_leases_are_judged_is_left_out(lab, tmp_path):
    journal = await Journal(tmp_path).open(epoch=1)
    lease = Lease(journal, lab.hands.clock(), "boot-1")
    for attempt in ("7.1", "8.1"):
        assign = Assign(attempt=attempt, instance=attempt, owner="ann", reserved=WireReserved(), lease=30.0)
        await journal.add(Entry(attempt=attempt, instance=attempt, backend="fake", assign=assign, boot="boot-1"))
    change = journal.change

    async def slow(attempt, **changes):
        await journal.remove("8.1" if attempt == "7.1" else "7.1")
        return await change(attempt, **changes)

    journal.change = slow
    lease.greeted()
    await lease.live()
    assert [(entry.attempt, entry.signalled) for entry in journal.attempts.values()] == [("7.1", OUTLIVED)]
    await journal.close()


class CannotUndo(sqlite3.Connection):
    def execute(self, sql, *values):
        if sql == "ROLLBACK":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


async def test_a_file_that_cannot_even_undo_tells_its_callers_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=CannotUndo))
    database = Database(tmp_path / "x.db")
    await database.open(["CREATE TABLE t(a UNIQUE)"], 1)
    twice = [("INSERT INTO t VALUES(1)", ()), ("INSERT INTO t VALUES(1)", ())]
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreError):
            await database.write(twice)
        with pytest.raises(StorageFull):
            await database.write(twice)
    await database.close()
