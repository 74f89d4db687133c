"""Leases: what is fenced ends by itself without contact, never begins without it, and nothing else is touched."""

import asyncio

from kohakuriver.domain.retries import FENCED
from kohakuriver.wire.link import Held, Hello, Renew

LEASE = 30.0
PATIENCE = 60.0
#: seconds in which a heartbeat comes
LATELY = 8


async def running(lab, peer, attempt="7.1", **fields):
    await peer.assign(attempt, "sleep", lease=LEASE, **fields)
    await peer.report(attempt, "started")
    await lab.acknowledged()


async def spend(lab, seconds):
    """Time in which the host says nothing that counts."""
    for _ in range(int(seconds * 2)):
        lab.hands.advance(0.5)
        await asyncio.sleep(0.002)


async def in_contact(lab, seconds):
    """Time that passes no faster than the host answers and the runner writes that down."""
    for _ in range(seconds):
        await lab.hands.pass_time(1)
        async with asyncio.timeout(PATIENCE):
            while lab.hands.now - (await lab.runner.journal.contact(lab.boot) or 0) > LATELY:
                await asyncio.sleep(0.005)


async def test_the_runner_names_the_feature_and_numbers_its_heartbeats(lab, peer):
    await lab.start()
    await lab.passing(lambda: len(beats(peer)) >= 2)
    assert peer.hellos[0].features == ["lease"]
    assert [beat.number for beat in beats(peer)][:2] == [1, 2]


def beats(peer):
    return [message for message in peer.received if type(message).__name__ == "Heartbeat"]


async def test_with_contact_a_fenced_attempt_runs_on(lab, peer):
    await lab.start()
    await running(lab, peer)
    await in_contact(lab, 3 * int(LEASE))
    assert lab.world.bodies["7.1"].run is not None
    assert peer.words("7.1") == ["accepted", "started"]


async def test_without_contact_it_is_ended_and_another_is_not(lab, peer):
    await lab.start()
    await running(lab, peer)
    await peer.assign("8.1", "sleep")
    await peer.report("8.1", "started")
    peer.renews = False
    await spend(lab, LEASE + 6)
    report = await peer.report("7.1", "exited")
    assert (report.exit.reason, report.exit.signal, report.signalled) == (FENCED, 9, None)
    assert peer.words("8.1") == ["accepted", "started"]
    assert lab.world.started == {"7.1": 1, "8.1": 1}


async def test_words_of_the_host_are_no_contact(lab, peer):
    """A line that carries only down: the host hears nothing, and its leases run out."""
    await lab.start()
    await running(lab, peer)
    peer.renews = False
    for _ in range(int(LEASE) + 6):
        await peer.send(Renew(number=10**6))
        await spend(lab, 1)
    assert (await peer.report("7.1", "exited")).exit.reason == FENCED


async def test_it_counts_from_what_was_sent_and_not_from_the_answer(lab, peer):
    await lab.start()
    await running(lab, peer)
    peer.renews = False
    await lab.passing(lambda: beats(peer))
    number = beats(peer)[-1].number
    await spend(lab, LEASE - 8)
    await peer.send(Renew(number=number))
    await spend(lab, 10)
    assert (await peer.report("7.1", "exited")).exit.reason == FENCED


async def test_a_runner_that_was_away_too_long_ends_it_before_it_hears_from_its_host(lab, peer):
    """Contact with the host comes back at once; it brings nothing back."""
    await lab.start()
    await running(lab, peer)
    await lab.die()
    lab.hands.now += LEASE + 1
    await lab.start()
    report = await peer.report("7.1", "exited")
    assert (report.exit.reason, lab.world.started) == (FENCED, {"7.1": 1})
    assert [held.phase for held in peer.inventories[-1].held] in (["running"], ["exited"])


async def test_a_short_absence_of_the_runner_ends_nothing(lab, peer):
    await lab.start()
    await running(lab, peer)
    for _ in range(3):
        await lab.die()
        lab.hands.now += LEASE / 2
        await lab.start()
        await in_contact(lab, 6)
    assert peer.words("7.1") == ["accepted", "started"]


async def test_a_body_that_does_not_run_yet_is_not_begun_without_contact(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", lease=LEASE, wanted="paused", revision=1)
    await peer.report("7.1", "accepted")
    await lab.acknowledged()
    peer.renews = False
    await spend(lab, LEASE + 6)
    report = await peer.report("7.1", "start_failed")
    assert (report.reason, lab.world.started) == (FENCED, {})


async def test_an_assignment_that_comes_after_the_lease_is_refused_for_now(lab, peer):
    await lab.start()
    peer.renews = False
    await spend(lab, LEASE + 2)
    await peer.assign("7.1", "sleep", lease=LEASE)
    report = await peer.report("7.1", "refused_for_now")
    assert (report.reason, lab.world.started) == (FENCED, {})


async def test_another_boot_knows_no_contact_of_this_one(lab, peer):
    await lab.start()
    await running(lab, peer)
    contact = lab.runner.lease._contact
    assert await lab.runner.journal.contact("boot-1") == contact
    assert await lab.runner.journal.contact("boot-2") is None


async def test_what_is_paused_is_ended_as_well(lab, peer):
    await lab.start()
    await running(lab, peer)
    await peer.wish("7.1", "paused", 1)
    await peer.report("7.1", "paused")
    peer.renews = False
    await spend(lab, LEASE + 6)
    assert (await peer.report("7.1", "exited")).exit.reason == FENCED


async def test_an_end_of_its_own_is_told_as_it_was(lab, peer):
    await lab.start()
    await running(lab, peer)
    lab.world.end("7.1", 3)
    report = await peer.report("7.1", "exited")
    assert (report.exit.code, report.exit.reason) == (3, None)
    assert isinstance(peer.received[0], Hello)
    assert Held(attempt="7.1", phase="running") not in peer.inventories[0].held
