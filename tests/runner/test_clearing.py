"""What is kept of an attempt goes once the host has it, however late its backend can be asked."""

from functools import partial

from kohakuriver.errors import BackendAway
from kohakuriver.testing.fakes import FailsToRemove


async def test_a_body_whose_backend_was_away_is_removed_without_another_word_of_the_host(lab, peer):
    lab.kind = partial(FailsToRemove, error=BackendAway("it went away"), times=3)
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    await lab.passing(lambda: "7.1" not in lab.entries)
    assert (lab.backend.times, lab.world.bodies) == (0, {})


async def test_a_removal_that_breaks_keeps_the_row_and_takes_nobody_down(lab, peer):
    lab.kind = partial(FailsToRemove, error=ZeroDivisionError("a bug"))
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    await lab.until(lambda: not lab.backend.times)
    await lab.acknowledged()
    assert "7.1" in lab.entries
    await lab.relink()
    await lab.gone("7.1")
    assert not lab.world.bodies
