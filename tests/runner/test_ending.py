"""What shall end ends, whatever hangs or is away meanwhile; what only stops being watched does not."""

import asyncio

import pytest

from kohakuriver.domain.retries import FENCED
from kohakuriver.errors import BackendAway, PluginError
from kohakuriver.testing.fakes import FakeBackend

LEASE = 30.0


async def outlive(lab, peer):
    """Time in which the host hears nothing, until the lease is over."""
    peer.renews = False
    for _ in range(int(LEASE + 6) * 2):
        lab.hands.advance(0.5)
        await asyncio.sleep(0.002)


async def test_a_lease_that_runs_out_while_a_pause_hangs_ends_the_run(lab, peer):
    pausing = asyncio.Event()

    class Stuck(FakeBackend):
        async def pause(self, handle, run):
            pausing.set()
            await asyncio.Event().wait()

    lab.kind = Stuck
    await lab.start()
    await peer.assign("7.1", "sleep", lease=LEASE)
    await peer.report("7.1", "started")
    await lab.acknowledged()
    await peer.wish("7.1", "paused", 1)
    await pausing.wait()
    await outlive(lab, peer)
    assert (await peer.report("7.1", "exited")).exit.reason == FENCED


async def test_a_lease_that_runs_out_while_an_image_is_fetched_ends_the_fetching(lab, peer):
    fetching = asyncio.Event()

    class Slow(FakeBackend):
        async def prepare(self, image, progress):
            fetching.set()
            await asyncio.Event().wait()

    lab.kind = Slow
    await lab.start()
    await peer.assign("7.1", "sleep", lease=LEASE)
    await fetching.wait()
    await lab.acknowledged()
    await outlive(lab, peer)
    report = await peer.report("7.1", "start_failed")
    assert (report.reason, lab.world.bodies) == (FENCED, {})


async def test_a_stop_that_hangs_is_asked_for_again_with_what_is_left_of_the_grace(lab, peer):
    graces = []

    class Deaf(FakeBackend):
        async def stop(self, handle, run, grace):
            graces.append(grace)
            if len(graces) == 1:
                lab.hands.now += 5
                await asyncio.Event().wait()
            await super().stop(handle, run, grace)

    lab.kind = Deaf
    await lab.start(stop_limit=0.1)
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.wish("7.1", "killed", 1, grace=0.1)
    assert (await peer.report("7.1", "exited")).signalled == "killed"
    assert graces == [pytest.approx(0.1), 0.0]


async def test_a_pause_and_a_resumption_wait_for_a_backend_that_is_away(lab, peer):
    class Away(FakeBackend):
        left = 4

        async def pause(self, handle, run):
            self._look()
            await super().pause(handle, run)

        async def resume(self, handle, run):
            self._look()
            await super().resume(handle, run)

        def _look(self):
            Away.left -= 1
            if Away.left % 2:
                raise BackendAway("the runtime does not answer")

    lab.kind = Away
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.wish("7.1", "paused", 1)
    await peer.until(lambda: len(peer.words("7.1")) == 3)
    await peer.wish("7.1", "run", 2)
    await peer.until(lambda: len(peer.words("7.1")) == 4)
    assert peer.words("7.1") == ["accepted", "started", "paused", "resumed"]
    assert (lab.world.bodies["7.1"].phase, Away.left) == ("running", 0)


async def test_a_call_that_fails_for_being_cancelled_is_no_end(lab, peer):
    fetching = asyncio.Event()

    class Grumpy(FakeBackend):
        async def prepare(self, image, progress):
            fetching.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise PluginError("the fetching was broken off") from None

    lab.kind = Grumpy
    await lab.start()
    await peer.assign("7.1", "sleep")
    await fetching.wait()
    await lab.stop()
    lab.kind = FakeBackend
    await lab.start()
    await peer.report("7.1", "started")
    assert peer.words("7.1") == ["accepted", "started"]
