"""A task's environment: brought once, shown while it comes, and what may go wrong on the way."""

import asyncio

import pytest

from kohakuriver.errors import NotFound, PluginError, StorageFull, Unreachable
from kohakuriver.testing.environments import PackagingBackend
from kohakuriver.wire.link import WireReserved

from .conftest import assign, notes, version


def fetched(node):
    return list((node.path / "node" / "environments" / "fetch").glob("*/*"))


async def test_what_is_there_costs_no_question(node, peer, images, medium):
    wanted = version(medium, b"base", b"tools")
    await node.start()
    await assign(peer, "7.1", wanted, "say", "", "", "0")
    await peer.report("7.1", "exited")
    looks = images.looks
    await assign(peer, "8.1", wanted, "say", "", "", "0")
    report = await peer.report("8.1", "exited")
    assert (report.exit.code, len(medium.fetches), images.looks) == (0, 1, looks)
    assert images.versions == {wanted.digest: ("my-env", 3)}
    assert not fetched(node)


async def test_a_body_is_made_of_the_digest_and_nobodys_name(node, peer, medium):
    wanted = version(medium, b"base")
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    await peer.report("7.1", "started")
    image = node.world.bodies["7.1"].job.image
    assert (image.digest, image.reference, image.environment, image.number) == (
        wanted.digest,
        wanted.digest,
        "my-env",
        3,
    )


async def test_only_missing_layers_are_fetched(node, peer, images, medium):
    images.add(b"base")
    wanted = version(medium, b"base", b"tools")
    await node.start()
    await assign(peer, "7.1", wanted, "say", "", "", "0")
    await peer.report("7.1", "exited")
    assert [len(layers) for layers in medium.fetches] == [1]


async def test_a_backend_that_wants_all_layers_gets_them(node, peer, images, medium):
    images.add(b"base")
    images.forgetful = True
    wanted = version(medium, b"base", b"tools")
    await node.start()
    await assign(peer, "7.1", wanted, "say", "", "", "0")
    report = await peer.report("7.1", "exited")
    assert report.exit.code == 0
    assert [len(layers) for layers in medium.fetches] == [1, 2]


async def test_twenty_tasks_cause_one_transfer_and_all_show_it(node, peer, medium):
    wanted = version(medium, b"base")
    medium.go.clear()
    await node.start()
    names = [f"{number}.1" for number in range(100, 120)]
    for name in names:
        await assign(peer, name, wanted, "sleep")
    await peer.until(lambda: all("fetching my-env v3, 0 of 910 MB" in notes(peer, name) for name in names))
    medium.go.set()
    for name in names:
        await peer.report(name, "started")
    assert len(medium.fetches) == 1


async def test_a_kill_of_one_that_waits_lets_the_others_go_on_and_the_last_ends_the_fetch(node, peer, medium):
    wanted = version(medium, b"base")
    medium.go.clear()
    await node.start()
    for name in ("7.1", "8.1"):
        await assign(peer, name, wanted, "sleep")
    await medium.waiting.wait()
    await peer.until(lambda: notes(peer, "8.1"))
    await peer.wish("7.1", "killed", 1)
    await peer.report("7.1", "never_started")
    assert medium.cancelled == 0
    await peer.wish("8.1", "killed", 1)
    await peer.report("8.1", "never_started")
    await node.until(lambda: medium.cancelled == 1)
    medium.go.set()
    await assign(peer, "9.1", wanted, "sleep")
    await peer.report("9.1", "started")
    assert len(medium.fetches) == 2


async def test_a_failure_is_that_of_those_who_wait_and_the_next_tries_again(node, peer, medium):
    wanted = version(medium, b"base")
    medium.errors = [PluginError("my-env:3 is half-written")]
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "start_failed")
    assert report.reason == "create: my-env:3 is half-written"
    await assign(peer, "8.1", wanted, "sleep")
    await peer.report("8.1", "started")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotFound("there is no content x"), "my-env v3: there is no content x"),
        (StorageFull("no room"), "no room"),
        (OSError(5, "broken"), "my-env v3 cannot be fetched"),
        (ZeroDivisionError("a bug"), "my-env v3 cannot be fetched: ZeroDivisionError"),
    ],
)
async def test_whatever_a_syncer_raises_fails_the_task_with_words(node, peer, medium, error, words):
    wanted = version(medium, b"base")
    medium.errors = [error]
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "start_failed")
    assert words in report.reason


async def test_a_host_that_does_not_answer_is_waited_for(node, peer, medium):
    wanted = version(medium, b"base")
    medium.errors = [Unreachable("the host does not answer"), Unreachable("the host does not answer")]
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    await node.passing(lambda: "started" in peer.words("7.1"))
    assert "my-env v3 cannot be fetched now: the host does not answer" in notes(peer, "7.1")


async def test_an_image_that_vanished_is_fetched_again_once(node, peer, images, medium):
    wanted = version(medium, b"base")
    await node.start()
    await assign(peer, "7.1", wanted, "say", "", "", "0")
    await peer.report("7.1", "exited")
    images.images.clear()
    await assign(peer, "8.1", wanted, "say", "", "", "0")
    report = await peer.report("8.1", "exited")
    assert (report.exit.code, len(medium.fetches)) == (0, 2)


async def test_a_body_that_cannot_be_made_for_another_reason_is_told_so(node, peer, images, medium, rooms):
    class Refuses(PackagingBackend):
        async def create(self, job):
            raise PluginError("the engine says no")

    node.kind = lambda world: Refuses(world, images, rooms)
    wanted = version(medium, b"base")
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "start_failed")
    assert (report.reason, len(medium.fetches)) == ("create: the engine says no", 1)


async def test_a_syncer_that_is_not_here_is_a_clear_refusal(node, peer, medium):
    wanted = version(medium, b"base", syncer="nfs")
    await node.start()
    await node.until(lambda: node.runner.attempts.desk.environments._stocks["fake"].known)
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "refused_for_good")
    assert report.reason == "my-env v3 is kept by the syncer nfs, which this node has not got; it has fake"


async def test_a_version_that_is_here_needs_no_syncer(node, peer, images, medium):
    wanted = version(medium, b"base", syncer="nfs")
    images.add(b"base")
    assert wanted.digest in images.images
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    await peer.report("7.1", "started")


async def test_a_backend_without_packages_refuses_an_environment(lab, peer, medium):
    await lab.start()
    await assign(peer, "7.1", version(medium, b"base"), "sleep")
    report = await peer.report("7.1", "refused_for_good")
    assert report.reason == "container: backend fake takes no environments"


async def test_never_pull_means_never(node, peer, medium):
    await node.start()
    await assign(peer, "7.1", version(medium, b"base"), "sleep", pull="never")
    report = await peer.report("7.1", "start_failed")
    assert report.reason == "create: my-env v3 is not on this node, and pull is never"
    assert not medium.fetches


async def test_the_policy_of_a_reference_reaches_the_backend(node, peer, images, monkeypatch):
    asked = []

    async def prepare(self, image, progress):
        asked.append((image.reference, image.pull))

    monkeypatch.setattr(PackagingBackend, "prepare", prepare)
    await node.start()
    await peer.assign("7.1", "sleep", image="debian:12", pull="always", reserved=WireReserved())
    await peer.report("7.1", "start_failed")
    assert asked == [("debian:12", "always")]


async def test_a_disk_without_room_is_told_before_anything_moves(node, peer, medium):
    wanted = version(medium, b"base", size=2**60)
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "start_failed")
    assert "my-env v3 may take 1099511627776 MiB" in report.reason
    assert not medium.fetches


async def test_the_limit_of_a_fetch_ends_the_waiting(node, peer, medium):
    wanted = version(medium, b"base")
    medium.go.clear()
    await node.start(prepare_limit=0.05)
    await assign(peer, "7.1", wanted, "sleep")
    report = await peer.report("7.1", "start_failed")
    assert report.reason == "create: took too long"
    await node.until(lambda: medium.cancelled == 1)


async def test_a_runner_that_died_in_a_fetch_goes_on_with_what_lies_there(node, peer, medium, rooms, images):
    wanted = version(medium, b"base")
    medium.go.clear()
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    await medium.waiting.wait()
    folder = fetched(node)[0]
    (folder / "half").write_bytes(b"kept")
    await node.die()
    medium.waiting.clear()
    await node.start()
    await medium.waiting.wait()
    assert (folder / "half").exists()
    medium.go.set()
    await peer.report("7.1", "started")
    await node.until(lambda: not fetched(node))


async def test_the_next_life_tidies_up(node, peer, images, medium):
    root = node.path / "node" / "environments"
    wanted = version(medium, b"base")
    images.add(b"base")
    loaded = root / "fetch" / "fake" / wanted.digest.removeprefix("sha256:")
    for folder in (root / "spool" / "x", root / "publish" / "y", loaded):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"left")
    await node.start()
    await node.until(lambda: not loaded.exists())
    assert not (root / "spool").exists()
    assert not (root / "publish").exists()


async def test_what_a_fetch_left_a_week_ago_goes(node):
    old = node.path / "node" / "environments" / "fetch" / "fake" / ("0" * 64)
    old.mkdir(parents=True)
    node.hands.now += 3e9
    await node.start()
    assert not old.exists()


async def test_a_fetch_that_begins_while_another_tidies_up_waits_for_it(node, peer, medium, monkeypatch):
    """They share a folder."""
    wanted = version(medium, b"base")
    await node.start()
    ensurer = node.runner.attempts.desk.environments._ensurer
    inside, most = 0, 0
    leaving = asyncio.Event()

    async def bring(self, fetch):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            if not leaving.is_set():
                try:
                    await asyncio.Event().wait()
                finally:
                    await leaving.wait()
        finally:
            inside -= 1

    monkeypatch.setattr(type(ensurer), "_bring", bring)
    await assign(peer, "7.1", wanted, "sleep")
    await node.until(lambda: inside)
    await peer.wish("7.1", "killed", 1)
    await peer.report("7.1", "never_started")
    await assign(peer, "8.1", wanted, "sleep")
    await node.until(lambda: ensurer._fetches)
    assert wanted.digest in ensurer.digests
    leaving.set()
    await peer.report("8.1", "start_failed")
    assert most == 1
    assert not ensurer.digests


async def test_syncers_are_told_to_the_host_and_a_broken_one_stops_nothing(node, peer, medium):
    class Broken(type(node.syncers[0])):
        name = "broken"

        async def open(self, ctx):
            raise ZeroDivisionError("a bug")

    node.syncers.append(Broken(medium))
    await node.start()
    told = {info.name: info for info in peer.hellos[-1].syncers}
    assert told["fake"].usable
    assert told["fake"].facts == {"versions": "0"}
    assert (told["broken"].usable, told["broken"].problems) == (False, ["cannot be opened: a bug"])
    assert node.syncers[0].ctx.state == node.path / "node" / "syncers" / "fake"
    assert node.syncers[0].ctx.state.is_dir()


async def test_no_third_fetch_passes_a_second_one_that_tidies_up(node, peer, medium, monkeypatch):
    """The first was waited for; the second holds the folder as well."""
    wanted = version(medium, b"base")
    await node.start()
    ensurer = node.runner.attempts.desk.environments._ensurer
    leaving = [asyncio.Event(), asyncio.Event()]
    entered = []

    async def bring(self, fetch):
        turn = len(entered)
        entered.append(fetch)
        if turn < 2:
            try:
                await asyncio.Event().wait()
            finally:
                await leaving[turn].wait()

    monkeypatch.setattr(type(ensurer), "_bring", bring)
    for turn, name in enumerate(("7.1", "8.1")):
        await assign(peer, name, wanted, "sleep")
        if turn:
            await node.until(lambda: ensurer._fetches)
            leaving[0].set()
        await node.until(lambda turn=turn: len(entered) == turn + 1)
        await peer.wish(name, "killed", 1)
        await peer.report(name, "never_started")
    assert wanted.digest in ensurer.digests
    await assign(peer, "9.1", wanted, "sleep")
    await node.until(lambda: ensurer._fetches)
    assert len(entered) == 2
    leaving[1].set()
    await peer.report("9.1", "start_failed")


async def test_a_fetch_that_ends_as_cancelled_by_nobody_here_is_told_to_who_waits(node, peer, medium):
    wanted = version(medium, b"base")
    medium.errors = [asyncio.CancelledError()]
    await node.start()
    await assign(peer, "7.1", wanted, "sleep")
    await node.passing(lambda: "started" in peer.words("7.1"))
    assert "my-env v3 was not fetched to its end" in notes(peer, "7.1")


async def test_what_a_fetch_left_goes_also_from_a_runner_that_lives_long(node, peer, medium):
    await node.start()
    folder = node.path / "node" / "environments" / "fetch" / "fake"
    left = folder / ("0" * 64)
    left.mkdir(parents=True)
    medium.go.clear()
    wanted = version(medium, b"base")
    await assign(peer, "7.1", wanted, "sleep")
    await medium.waiting.wait()
    node.hands.now += 3e9
    await node.passing(lambda: not left.exists())
    assert fetched(node) == [folder / wanted.digest.removeprefix("sha256:")]
    medium.go.set()
