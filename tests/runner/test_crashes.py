"""The runner dies on every line that matters; the next life makes it true, and nothing starts twice."""

import asyncio

import pytest

from kohakuriver.testing.fakes import FakeBackend

#: every commit about an attempt and every backend call of a whole life, before and after
POINTS = [
    f"{when} {what}"
    for what in ("accept", "create", "handle", "start", "run", "wait", "exit", "remove", "row")
    for when in ("before", "after")
]
NAMES = ["accept", "handle", "run", "exit", "row"]


class Freezer:
    """Stops everything at one point, for ever: nothing behind it happens in this life."""

    def __init__(self, point):
        self.point = point
        self.hit = asyncio.Event()

    async def at(self, point):
        if point == self.point:
            self.hit.set()
        if self.hit.is_set():
            await asyncio.Event().wait()


class Frail(FakeBackend):
    freezer: Freezer

    async def create(self, job):
        await self.freezer.at("before create")
        handle = await super().create(job)
        await self.freezer.at("after create")
        return handle

    async def start(self, handle, job):
        await self.freezer.at("before start")
        run = await super().start(handle, job)
        await self.freezer.at("after start")
        return run

    async def wait(self, handle, run):
        await self.freezer.at("before wait")
        ended = await super().wait(handle, run)
        await self.freezer.at("after wait")
        return ended

    async def remove(self, handle):
        await self.freezer.at("before remove")
        await super().remove(handle)
        await self.freezer.at("after remove")


def frail(runner, freezer):
    """Makes the journal stop at the freezer's point."""
    database = runner.journal._database
    write = database.write
    step = iter(NAMES)

    async def careful(statements, *rest, **named):
        if not any("attempts" in sql for sql, _ in statements):
            await write(statements, *rest, **named)
            return
        name = next(step)
        await freezer.at(f"before {name}")
        await write(statements, *rest, **named)
        await freezer.at(f"after {name}")

    database.write = careful


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("program", ["ends at once", "goes on"])
async def test_killed_at_every_step_it_starts_at_most_once_and_its_end_is_true(lab, peer, point, program):
    freezer = Freezer(point)
    lab.kind = type("FrailHere", (Frail,), {"freezer": freezer})
    frail(lab.make(), freezer)
    await lab.start()
    argv = ("say", b"all of it".hex(), "", "9") if program == "ends at once" else ("sleep",)
    await peer.assign("7.1", *argv)
    if program == "goes on" and POINTS.index(point) > POINTS.index("before wait"):
        await peer.report("7.1", "started")
        lab.world.end("7.1", 9)
    async with asyncio.timeout(60):
        await freezer.hit.wait()
    await lab.die()

    lab.kind = FakeBackend
    await lab.start()
    if program == "goes on":
        await _end(lab, peer)
    report = await peer.report("7.1", "exited")
    await lab.until(lambda: not lab.entries and not lab.world.bodies)
    assert report.exit.code == 9
    assert lab.world.started == {"7.1": 1}
    assert peer.words("7.1").count("exited") == 1
    assert report.stdout.data == (b"all of it" if program == "ends at once" else b"up\n")


async def _end(lab, peer):
    """Ends the body of this life, if it still runs."""
    if "exited" in peer.words("7.1"):
        return
    async with asyncio.timeout(60):
        while "exited" not in peer.words("7.1"):
            body = lab.world.bodies.get("7.1")
            if body is not None and body.phase == "running":
                lab.world.end("7.1", 9)
            await asyncio.sleep(0.005)


async def test_a_kill_wanted_before_the_crash_holds_after_it(lab, peer):
    freezer = Freezer("after start")
    lab.kind = type("FrailHere", (Frail,), {"freezer": freezer})
    await lab.start()
    await peer.assign("7.1", "sleep")
    await freezer.hit.wait()
    await peer.wish("7.1", "killed", 1)
    await lab.until(lambda: lab.entries["7.1"].wanted == "killed")
    await lab.die()
    lab.kind = FakeBackend
    await lab.start()
    assert (await peer.report("7.1", "exited")).signalled == "killed"


async def test_the_time_limit_counts_the_time_in_which_the_runner_was_away(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", time_limit=60.0)
    await peer.report("7.1", "started")
    await lab.die()
    lab.hands.advance(100)
    await lab.start()
    assert (await peer.report("7.1", "exited")).signalled == "timed_out"


async def test_a_pause_before_the_crash_is_not_counted_after_it(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", time_limit=60.0)
    await peer.report("7.1", "started")
    await peer.wish("7.1", "paused", 1)
    await peer.report("7.1", "paused")
    await lab.die()
    lab.hands.advance(100)
    await lab.start()
    await peer.wish("7.1", "run", 2)
    await peer.report("7.1", "resumed")
    assert lab.entries["7.1"].elapsed(lab.hands.now) < 60
    assert lab.entries["7.1"].signalled is None


async def test_a_body_frozen_by_a_pause_that_was_not_journaled_goes_on_when_wanted(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.die()
    lab.world.bodies["7.1"].phase = "paused"
    await lab.start()
    await peer.report("7.1", "resumed")
    assert lab.world.bodies["7.1"].phase == "running"
