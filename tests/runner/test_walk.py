"""One attempt from its assignment until it is forgotten, at every place where something may come in between."""

import asyncio

import pytest

from kohakuriver.errors import BackendAway
from kohakuriver.hooks.backend import Backend
from kohakuriver.testing.fakes import (
    AwayAtFirst,
    Crashes,
    FailsToCreate,
    FailsToStart,
    FakeBackend,
    SlowStart,
    StartsAndFails,
)
from kohakuriver.wire.link import Forget, WireReserved


async def test_runs_and_reports_in_order_and_leaves_nothing(lab, peer):
    await lab.start()
    await peer.assign("7.1", "say", b"out".hex(), b"err".hex(), "7")
    report = await peer.report("7.1", "exited")
    assert peer.words("7.1") == ["accepted", "started", "exited"]
    assert (report.exit.code, report.signalled) == (7, None)
    assert (report.stdout.data, report.stderr.data) == (b"out", b"err")
    await lab.gone("7.1")
    assert not lab.world.bodies
    assert not list((lab.path / "node" / "jobs").iterdir())
    assert not (lab.path / "node" / "output" / "7.1").exists()


async def test_what_may_be_forgotten_goes_many_at_once(lab, peer, monkeypatch):
    monkeypatch.setattr("kohakuriver.runner.clearing.GATHER_SECONDS", 1.0)
    await lab.start()
    commits = []
    write = lab.runner.journal._database.write

    async def counted(statements, *arguments, **named):
        commits.append([sql for sql, _ in statements if sql.startswith("DELETE FROM attempts")])
        await write(statements, *arguments, **named)

    lab.runner.journal._database.write = counted
    peer.forget_ended = False
    names = [f"7.{number}" for number in range(1, 6)]
    for name in names:
        await peer.assign(name, "say", "", "", "0", reserved=WireReserved(cpu_milli=100))
    for name in names:
        await peer.report(name, "exited")
    await lab.until(lambda: not list(lab.runner.journal.open_entries()))
    await peer.send(Forget(attempts=names))
    await lab.until(lambda: not lab.runner.journal.attempts)
    assert max(map(len, commits)) == len(names)
    assert not list((lab.path / "node" / "jobs").iterdir())


async def test_a_second_assignment_starts_nothing_and_is_answered(lab, peer):
    await lab.start()
    message = await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.send(message)
    await peer.send(message)
    lab.world.end("7.1", 3)
    assert (await peer.report("7.1", "exited")).exit.code == 3
    assert lab.world.started == {"7.1": 1}


async def test_an_assignment_of_something_ended_gets_its_end_again(lab, peer):
    peer.forget_ended = False
    await lab.start()
    message = await peer.assign("7.1", "say", b"x".hex(), "", "4")
    await peer.report("7.1", "exited")
    await lab.until(lambda: not lab.runner.journal.outbox.waits("7.1"))
    await peer.send(message)
    again = await peer.report("7.1", "exited", count=2)
    assert (again.exit.code, again.stdout.data) == (4, b"x")
    assert lab.world.started == {"7.1": 1}


async def test_unknown_backend_is_refused_for_good(lab, peer):
    await lab.start()
    await peer.assign("7.1", "x", backend="warp")
    report = await peer.report("7.1", "refused_for_good")
    assert "no backend warp" in report.reason
    assert "fake" in report.reason
    assert peer.words("7.1") == ["refused_for_good"]


async def test_bad_options_are_refused_for_good_with_their_field(lab, peer):
    await lab.start()
    await peer.assign("7.1", "x", options={"color": "red"})
    assert "color" in (await peer.report("7.1", "refused_for_good")).reason


async def test_what_the_backend_checks_is_refused_for_good(lab, peer):
    class Picky(FakeBackend):
        async def check(self, job):
            return ["no tuesdays", "no mondays"]

    lab.kind = Picky
    await lab.start()
    await peer.assign("7.1", "x")
    assert (await peer.report("7.1", "refused_for_good")).reason == "no tuesdays; no mondays"
    assert not lab.world.bodies


async def test_more_than_the_journal_has_room_for_is_refused_for_now_with_numbers(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", reserved=WireReserved(cpu_milli=3000))
    await peer.assign("8.1", "sleep", reserved=WireReserved(cpu_milli=2000))
    await peer.report("7.1", "started")
    assert (await peer.report("8.1", "refused_for_now")).reason == "cores: 2 asked for, 1 of 4 free"
    lab.world.end("7.1")
    await lab.gone("7.1")
    await peer.assign("9.1", "sleep", reserved=WireReserved(cpu_milli=2000))
    await peer.report("9.1", "started")


async def test_a_pinned_cpu_is_given_once(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", reserved=WireReserved(cpu_milli=1000, cpus=[2]))
    await peer.assign("8.1", "sleep", reserved=WireReserved(cpu_milli=1000, cpus=[2]))
    assert "cpu 2" in (await peer.report("8.1", "refused_for_now")).reason


@pytest.mark.parametrize("kind", [FailsToCreate, FailsToStart])
async def test_a_backend_that_says_no_is_a_failed_start_with_its_words(lab, peer, kind):
    lab.kind = kind
    await lab.start()
    await peer.assign("7.1", "sleep")
    report = await peer.report("7.1", "start_failed")
    assert "body 7.1" in report.reason
    await lab.gone("7.1")
    assert not lab.world.bodies


async def test_what_is_started_waits_for_a_runtime_that_is_away(lab, peer):
    lab.kind = AwayAtFirst
    await lab.start()
    await peer.assign("7.1", "sleep")
    await lab.passing(lambda: "started" in peer.words("7.1"))
    assert lab.world.started == {"7.1": 1}
    assert "start_failed" not in peer.words("7.1")


async def test_a_kill_holds_while_the_runtime_is_away(lab, peer):
    class Away(FakeBackend):
        async def create(self, job):
            raise BackendAway("the runtime does not answer")

    lab.kind = Away
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "accepted")
    await peer.wish("7.1", "killed", 2)
    await lab.passing(lambda: "never_started" in peer.words("7.1"))
    assert lab.world.started == {}


async def test_a_start_whose_answer_was_lost_is_found_and_not_repeated(lab, peer):
    lab.kind = StartsAndFails
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    lab.world.end("7.1", 5)
    assert (await peer.report("7.1", "exited")).exit.code == 5
    assert lab.world.started == {"7.1": 1}


async def test_three_crashes_give_one_attempt_up_and_the_runner_lives_on(lab, peer):
    lab.kind = Crashes
    await lab.start()
    await peer.assign("7.1", "sleep")
    await lab.hands.pass_time(10)
    report = await peer.report("7.1", "start_failed")
    assert "3 crashes" in report.reason
    assert "a bug in the plugin" in report.reason
    await peer.assign("8.1", "x", backend="warp")
    await peer.report("8.1", "refused_for_good")


async def test_killed_while_it_is_being_started(lab, peer):
    lab.kind = SlowStart
    await lab.start()
    await peer.assign("7.1", "sleep")
    await lab.backend.asked.wait()
    await peer.wish("7.1", "killed", 1)
    await lab.until(lambda: lab.entries["7.1"].wanted == "killed")
    lab.backend.go.set()
    report = await peer.report("7.1", "exited")
    assert report.signalled == "killed"
    assert report.exit.code == 143


async def test_killed_while_its_image_is_fetched_never_starts(lab, peer):
    fetching = asyncio.Event()

    class Fetches(FakeBackend):
        async def prepare(self, image, progress):
            fetching.set()
            await asyncio.Event().wait()

    lab.kind = Fetches
    await lab.start()
    await peer.assign("7.1", "sleep")
    await fetching.wait()
    await peer.wish("7.1", "killed", 1)
    await peer.report("7.1", "never_started")
    assert not lab.world.started


async def test_assigned_with_the_wish_to_kill_never_starts(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", wanted="killed", revision=3)
    await peer.report("7.1", "never_started")
    assert not lab.world.started


async def test_killed_while_running(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.wish("7.1", "killed", 1)
    report = await peer.report("7.1", "exited")
    assert (report.exit.signal, report.signalled) == (15, "killed")


async def test_paused_before_its_start_nothing_runs_until_resume(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", wanted="paused", revision=1)
    await lab.until(lambda: "7.1" in lab.entries and lab.entries["7.1"].phase == "created")
    assert not lab.world.started
    await peer.wish("7.1", "run", 2)
    await peer.report("7.1", "started")
    assert peer.words("7.1") == ["accepted", "started"]


async def test_paused_before_its_start_and_killed(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", wanted="paused", revision=1)
    await peer.report("7.1", "accepted")
    await peer.wish("7.1", "killed", 2)
    await peer.report("7.1", "never_started")
    assert not lab.world.started


async def test_pause_and_resume_are_reported_and_not_counted_as_running(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.hands.pass_time(10)
    await peer.wish("7.1", "paused", 1)
    await peer.report("7.1", "paused")
    assert lab.world.bodies["7.1"].phase == "paused"
    await lab.hands.pass_time(100)
    await peer.wish("7.1", "run", 2)
    await peer.report("7.1", "resumed")
    assert lab.world.bodies["7.1"].phase == "running"
    lab.hands.advance(5)
    assert lab.entries["7.1"].elapsed(lab.hands.now) == 15


async def test_a_lower_revision_changes_nothing(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", revision=5)
    await peer.report("7.1", "started")
    await peer.wish("7.1", "killed", 4)
    await peer.wish("7.1", "paused", 6)
    await peer.report("7.1", "paused")
    assert lab.world.bodies["7.1"].phase == "paused"


async def test_a_kill_is_never_taken_back(lab, peer):
    lab.kind = SlowStart
    await lab.start()
    await peer.assign("7.1", "sleep")
    await lab.backend.asked.wait()
    await peer.wish("7.1", "killed", 1)
    await peer.wish("7.1", "run", 2)
    await lab.until(lambda: lab.entries["7.1"].revision == 2)
    lab.backend.go.set()
    assert (await peer.report("7.1", "exited")).signalled == "killed"


async def test_a_backend_that_cannot_pause_says_so_once(lab, peer):
    methods = {name: value for name, value in vars(FakeBackend).items() if name not in ("pause", "resume")}
    lab.kind = type("NoPause", (Backend,), methods)
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.wish("7.1", "paused", 1)
    report = await peer.report("7.1", "resumed")
    assert report.reason == "backend fake cannot pause"
    lab.world.end("7.1")
    await peer.report("7.1", "exited")
    assert peer.words("7.1") == ["accepted", "started", "resumed", "exited"]


async def test_the_time_limit_ends_it(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", time_limit=60.0)
    await peer.report("7.1", "started")
    await lab.until(lambda: lab.entries["7.1"].phase == "running")
    await lab.hands.pass_time(29)
    await peer.wish("7.1", "paused", 1)
    await peer.report("7.1", "paused")
    await lab.hands.pass_time(100)
    await peer.wish("7.1", "run", 2)
    await peer.report("7.1", "resumed")
    assert "limit_reached" not in peer.words("7.1")
    await lab.hands.pass_time(40)
    report = await peer.report("7.1", "exited")
    assert report.signalled == "timed_out"
    assert "limit_reached" in peer.words("7.1")
    assert 60 <= report.usage.running_seconds < 100, "the pause does not count"


async def test_secrets_leave_the_journal_when_it_ends(lab, peer):
    peer.forget_ended = False
    await lab.start()
    await peer.assign("7.1", "variable", "TOKEN", secrets={"TOKEN": "hunter2"})
    assert (await peer.report("7.1", "exited")).stdout.data == b"hunter2"
    rows = await lab.runner.journal._database.read("SELECT assign FROM attempts")
    assert b"hunter2" not in rows[0][0]
    files = [lab.path / "node" / name for name in ("runner.db", "runner.db-wal")]
    await lab.until(lambda: not any(b"hunter2" in path.read_bytes() for path in files))


async def test_forget_of_what_runs_changes_nothing(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.send(Forget(attempts=["7.1", "99.1"]))
    await peer.wish("7.1", "paused", 1)
    await peer.report("7.1", "paused")
    assert lab.world.bodies["7.1"].phase == "paused"


async def test_a_kill_of_something_unknown_leaves_a_tombstone_that_never_starts(lab, peer):
    peer.forget_ended = False
    await lab.start()
    await peer.wish("7.1", "killed", 1)
    await peer.report("7.1", "unknown")
    await peer.assign("7.1", "sleep")
    await peer.assign("8.1", "sleep")
    await peer.report("8.1", "started")
    assert lab.world.started == {"8.1": 1}


async def test_a_script_alone_is_a_command(lab, peer):
    class Needs(FakeBackend):
        async def check(self, job):
            return [] if job.argv else ["nothing to run"]

    lab.kind = Needs
    await lab.start()
    await peer.assign("7.1", script="echo hi")
    await peer.report("7.1", "started")
    job = lab.world.bodies["7.1"].job
    assert job.argv == ("/bin/sh", "/kohakuriver/script")  # where an image sees it
    assert (job.directory / "script").read_text() == "echo hi"
