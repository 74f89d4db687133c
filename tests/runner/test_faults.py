"""One thing that goes wrong at a bad moment: nobody else waits for it, nothing is taken for an end, the runner lives on."""

import asyncio
import threading

import pytest

from kohakuriver.errors import PluginError, StorageFull, StoreError
from kohakuriver.hooks.values import Chunk, Job, Stats
from kohakuriver.runner.database import Database
from kohakuriver.runner.output import Live
from kohakuriver.runner.settings import OutputLimits
from kohakuriver.testing.fakes import FakeBackend, FakeBody
from kohakuriver.wire.link import Dial, DialFailed

PATIENCE = 30.0


@pytest.fixture
async def database(tmp_path):
    found = Database(tmp_path / "x.db")
    await found.open(["CREATE TABLE t(a)"], 1)
    yield found
    await found.close()


@pytest.mark.parametrize("value", [2**70, object(), "\ud800"], ids=["number", "object", "text"])
async def test_a_value_that_the_journal_cannot_hold_fails_its_own_caller_alone(database, value):
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(
            database.write([("INSERT INTO t VALUES(?)", (1,))]),
            database.write([("INSERT INTO t VALUES(?)", (value,))]),
            database.write([("INSERT INTO t VALUES(?)", (2,))]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), StoreError, type(None)]
        assert await database.read("SELECT a FROM t") == [(1,), (2,)]


async def test_a_change_that_memory_cannot_follow_keeps_nobody_else_waiting(database):
    def broken():
        raise KeyError("7.1")

    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(
            database.write([("INSERT INTO t VALUES(1)", ())], broken),
            database.write([("INSERT INTO t VALUES(2)", ())]),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [KeyError, type(None)]


class Gate:
    """Threads that stop at a door until the test opens it."""

    def __init__(self):
        self.inside = threading.Event()
        self.open = threading.Event()
        self.shut = True

    async def in_thread(self, function, *arguments, **named):
        def call():
            if self.shut and function.__name__ == "write":
                self.inside.set()
                assert self.open.wait(PATIENCE)
            return function(*arguments, **named)

        return await asyncio.to_thread(call)


async def test_a_reader_that_is_cancelled_while_its_bytes_are_written_loses_and_doubles_nothing(tmp_path):
    gate = Gate()
    live = Live(tmp_path, OutputLimits(head=100, tail=300, segment=100, pending=50), gate.in_thread)
    feeding = asyncio.ensure_future(live.feed(Chunk(stream="stdout", offset=0, data=b"a" * 60)))
    await asyncio.to_thread(gate.inside.wait, PATIENCE)
    feeding.cancel()
    await asyncio.wait({feeding}, timeout=0.05)
    gate.shut = False
    gate.open.set()
    await asyncio.wait({feeding}, timeout=PATIENCE)
    await live.feed(Chunk(stream="stdout", offset=live.offsets.stdout, data=b"b" * 60))
    sealed, _ = await live.seal()
    assert (sealed.size, sealed.head, sealed.tail) == (120, 100, 20)
    stream = live.streams["stdout"]
    assert await stream.read(0, 100) == (0, b"a" * 60 + b"b" * 40)
    assert await stream.read(100, 100) == (100, b"b" * 20)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError("the daemon is away")])
async def test_a_check_that_breaks_refuses_its_attempt_and_takes_nobody_down(lab, peer, error):
    class Broken(FakeBackend):
        async def check(self, job):
            if job.attempt == "7.1":
                raise error
            return await super().check(job)

    lab.kind = Broken
    await lab.start()
    await peer.assign("7.1", "sleep")
    what = "refused_for_now" if isinstance(error, OSError) else "refused_for_good"
    assert str(error) in (await peer.report("7.1", what)).reason
    await peer.assign("8.1", "say", "", "", "0")
    await peer.report("8.1", "exited")


async def test_a_backend_that_breaks_when_asked_what_it_holds_takes_nobody_down(lab, peer):
    class Broken(FakeBackend):
        async def found(self):
            raise ZeroDivisionError("a bug")

    lab.kind = Broken
    await lab.start()
    await lab.hands.pass_time(5)
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")


def stray(lab, instance="99.1"):
    """A body of ours that no journal row knows."""
    directory = lab.path / "node" / "jobs" / instance
    job = Job(instance=instance, attempt=instance, owner="ann", argv=("sleep",), directory=directory)
    lab.world.bodies[instance] = FakeBody(job=job)
    lab.world.begin(lab.world.bodies[instance], instance)


async def test_a_stray_body_is_taken_in_once_the_journal_has_room_again(lab, peer):
    stray(lab)
    journal = lab.make().journal
    add, refused = journal.add, []

    async def full(entry, report=None):
        if not refused:
            refused.append(entry.attempt)
            raise StorageFull("the journal cannot be written")
        await add(entry, report)

    journal.add = full
    await lab.start()
    await lab.hands.pass_time(5)
    await peer.report("99.1", "recovered")
    assert refused == ["99.1"]


async def test_a_body_that_is_assigned_while_it_is_found_is_taken_in_once(lab, peer):
    looking, go = asyncio.Event(), asyncio.Event()

    class Slow(FakeBackend):
        async def see(self, handle):
            if not go.is_set():
                looking.set()
                await go.wait()
            return await super().see(handle)

    stray(lab)
    lab.kind = Slow
    await lab.start()
    await looking.wait()
    await peer.assign("99.1", "sleep")
    await lab.until(lambda: "99.1" in lab.entries)
    go.set()
    await peer.report("99.1", "started")
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    assert "recovered" not in peer.words("99.1")


async def test_output_that_cannot_be_opened_is_told_and_takes_nobody_down(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    (lab.path / "node" / "output").mkdir(exist_ok=True)
    (lab.path / "node" / "output" / "8.1").write_text("not a directory")
    peer.forget_ended = False
    await peer.assign("8.1", "missing")
    await peer.report("8.1", "start_failed")
    await peer.send(Dial(ticket="t1", attempt="8.1", kind="output"))
    await peer.message(DialFailed)
    await peer.assign("9.1", "say", "", "", "0")
    await peer.report("9.1", "exited")


async def test_a_kill_holds_while_a_pause_hangs(lab, peer):
    pausing = asyncio.Event()

    class Stuck(FakeBackend):
        async def pause(self, handle, run):
            pausing.set()
            await asyncio.Event().wait()

    lab.kind = Stuck
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.wish("7.1", "paused", 1)
    await pausing.wait()
    await peer.wish("7.1", "killed", 2)
    assert (await peer.report("7.1", "exited")).signalled == "killed"


async def test_a_body_whose_handle_was_never_written_down_is_removed_all_the_same(lab, peer):
    made = asyncio.Event()

    class Dies(FakeBackend):
        async def create(self, job):
            await super().create(job)
            made.set()
            await asyncio.Event().wait()

    lab.kind = Dies
    await lab.start()
    await peer.assign("7.1", "sleep")
    await made.wait()
    await peer.wish("7.1", "killed", 1)
    await lab.until(lambda: lab.entries["7.1"].wanted == "killed")
    await lab.die()
    lab.kind = FakeBackend
    await lab.start()
    await peer.report("7.1", "never_started")
    await lab.gone("7.1")
    assert not lab.world.bodies


async def test_a_body_that_was_made_although_making_it_failed_is_removed(lab, peer):
    class Fails(FakeBackend):
        async def create(self, job):
            await super().create(job)
            raise PluginError("the answer was lost")

    lab.kind = Fails
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "start_failed")
    await lab.gone("7.1")
    assert not lab.world.bodies


async def test_an_attempt_whose_end_cannot_be_told_in_full_is_given_up_and_takes_nobody_down(lab, peer):
    class Nonsense(FakeBackend):
        async def stats(self, handles):
            return {handle.data["instance"]: Stats(cpu_seconds=object()) for handle in handles}

    lab.kind = Nonsense
    await lab.start()
    await peer.assign("7.1", "say", b"out".hex(), "", "0")
    report = await peer.report("7.1", "exited")
    assert "3 crashes" in report.exit.reason
    lab.world.bodies.clear()
    await peer.assign("8.1", "x", backend="warp")
    await peer.report("8.1", "refused_for_good")
