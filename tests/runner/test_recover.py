"""What a new life makes of journal and bodies."""

import asyncio

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Job
from kohakuriver.testing.fakes import FakeBackend, FakeBody
from kohakuriver.wire.link import Held


def stray(lab, instance="99.1"):
    """A body of ours that no journal row knows."""
    job = Job(instance=instance, attempt=instance, owner="ann", argv=("sleep",), directory=lab.path)
    body = lab.world.bodies[instance] = FakeBody(job=job)
    lab.world.begin(body, instance)


async def test_a_running_attempt_is_adopted_and_its_output_goes_on_without_a_gap(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    for number in range(60):
        lab.world.say("7.1", b"line %06d\n" % number)
    await lab.die()
    lab.world.say("7.1", b"while away\n")
    await lab.start()
    assert Held(attempt="7.1", phase="running") in peer.inventories[-1].held
    lab.world.end("7.1", 0)
    report = await peer.report("7.1", "exited")
    written = b"up\n" + b"".join(b"line %06d\n" % number for number in range(60)) + b"while away\n"
    assert report.stdout.size == len(written)
    assert report.stdout.head + report.stdout.tail == len(written)
    assert lab.world.started == {"7.1": 1}


async def test_stopping_the_runner_touches_no_body(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.stop()
    assert lab.world.bodies["7.1"].phase == "running"
    assert not lab.world.bodies["7.1"].signals


async def test_a_body_that_is_gone_ended_for_an_unknown_reason(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.die()
    del lab.world.bodies["7.1"]
    await lab.start()
    report = await peer.report("7.1", "exited")
    assert (report.exit.code, report.exit.reason) == (None, "the body is gone")


async def test_after_a_reboot_no_exit_code_is_believed(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.die()
    lab.boot = "boot-2"
    lab.world.end("7.1", 255)
    await lab.start()
    report = await peer.report("7.1", "exited")
    assert (report.exit.code, report.exit.reason) == (None, "node rebooted")


async def test_an_accepted_attempt_without_a_body_starts_after_a_reboot(lab, peer):
    waiting = asyncio.Event()

    class Slow(FakeBackend):
        async def prepare(self, image, progress):
            waiting.set()
            await asyncio.Event().wait()

    lab.kind = Slow
    await lab.start()
    await peer.assign("7.1", "sleep")
    await waiting.wait()
    await lab.die()
    lab.boot, lab.kind = "boot-2", FakeBackend
    await lab.start()
    await peer.report("7.1", "started")
    assert lab.world.started == {"7.1": 1}


async def test_a_body_without_a_row_is_reported_and_held_and_a_wish_ends_it(lab, peer):
    stray(lab)
    await lab.start()
    report = await peer.report("99.1", "recovered")
    assert report.found["instance"] == "99.1"
    assert report.found["backend"] == "fake"
    await peer.report("99.1", "started")
    assert lab.world.bodies["99.1"].phase == "running"
    await peer.wish("99.1", "killed", 1)
    assert (await peer.report("99.1", "exited")).signalled == "killed"
    await lab.gone("99.1")
    assert not lab.world.bodies


async def test_a_wiped_journal_finds_its_bodies_and_begins_a_new_epoch(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.die()
    for path in (lab.path / "node").glob("runner.db*"):
        path.unlink()
    peer.assigned.clear()
    lab.hands.advance(1)
    await lab.start()
    await peer.report("7.1", "recovered")
    assert peer.hellos[-1].epoch != peer.hellos[0].epoch
    assert lab.world.started == {"7.1": 1}


async def test_a_backend_that_does_not_answer_at_the_start_is_asked_until_it_does(lab, peer):
    class Late(FakeBackend):
        answers = 0

        async def found(self):
            Late.answers += 1
            if Late.answers < 3:
                raise PluginError("the daemon does not answer")
            return await super().found()

    stray(lab)
    lab.kind = Late
    await lab.start()
    await lab.hands.pass_time(10)
    await peer.report("99.1", "recovered")


async def test_a_backend_that_does_not_answer_later_is_waited_for_and_nothing_is_given_up(lab, peer):
    class Flaky(FakeBackend):
        failures = 10

        async def wait(self, handle, run):
            if Flaky.failures:
                Flaky.failures -= 1
                raise PluginError("the daemon restarts")
            return await super().wait(handle, run)

    lab.kind = Flaky
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.hands.pass_time(150)
    lab.world.end("7.1", 6)
    assert (await peer.report("7.1", "exited")).exit.code == 6
