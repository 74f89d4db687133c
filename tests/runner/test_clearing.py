"""What is kept of an attempt goes once the host has it, however late its backend can be asked."""

from kohakuriver.errors import BackendAway
from kohakuriver.testing.fakes import FakeBackend


async def test_a_body_whose_backend_was_away_is_removed_without_another_word_of_the_host(lab, peer):
    class Away(FakeBackend):
        failures = 3

        async def remove(self, handle):
            if Away.failures:
                Away.failures -= 1
                raise BackendAway("it went away")
            await super().remove(handle)

    lab.kind = Away
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    while Away.failures:
        await lab.hands.pass_time(20)
    await lab.hands.pass_time(20)
    await lab.gone("7.1")
    assert not lab.world.bodies
