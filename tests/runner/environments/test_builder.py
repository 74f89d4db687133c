"""What a node is asked about environments, over a real stream."""

import asyncio

import pytest

from kohakuriver.errors import PluginError, StorageFull
from kohakuriver.hooks.values import Probe
from kohakuriver.runner.environments import builder as builders
from kohakuriver.runner.environments import prune, service
from kohakuriver.testing.environments import PackagingBackend, Room
from kohakuriver.testing.fakes import FakeBackend
from kohakuriver.wire import codec
from kohakuriver.wire import environments as wire
from kohakuriver.wire.frames import Kind, frame, frames
from kohakuriver.wire.link import Dial, DialFailed

from .conftest import version

UPLOAD = bytes(range(256)) * 8192


def left(node):
    """Files of operations that lie on the disk."""
    root = node.path / "node" / "environments"
    return [path for name in ("spool", "publish") for path in (root / name).glob("*")]


async def test_containers_are_made_listed_stopped_started_and_deleted(node, host, images):
    base = images.add(b"base")
    await node.start()
    made = await host.done(wire.CreateContainer(name="a", image=base.digest))
    assert made == {"name": "a", "state": "running", "base": base.digest, "origin": base.digest}
    assert await host.done(wire.StopContainer(name="a")) == {}
    listed = await host.done(wire.ListContainers())
    assert [(one["name"], one["state"]) for one in listed["containers"]] == [("a", "stopped")]
    await host.done(wire.StartContainer(name="a"))
    await host.done(wire.DeleteContainer(name="a"))
    failure = await (await host.ask(wire.DeleteContainer(name="a"))).failure()
    assert (failure.code, failure.message) == ("not_found", "there is no container a")


async def test_a_container_of_a_version_gets_it_first(node, host, medium, rooms):
    wanted = version(medium, b"base")
    await node.start()
    await host.done(wire.CreateContainer(name="a", version=wanted))
    assert (rooms.rooms["a"].base, rooms.rooms["a"].origin) == (wanted.digest, "my-env:3")
    assert len(medium.fetches) == 1


async def test_nothing_prunes_a_version_of_which_a_container_is_just_made(
    node, host, medium, rooms, images, monkeypatch
):
    wanted = version(medium, b"base")
    await node.start()
    room = node.runner.attempts.desk.environments._room
    create = type(rooms).create

    async def crowded(self, *args):
        monkeypatch.setattr(prune, "free", lambda place: 0)
        with pytest.raises(StorageFull):
            await room.make(10**9, "another one")
        return await create(self, *args)

    monkeypatch.setattr(room, "_floor", 10**9)
    monkeypatch.setattr(type(rooms), "create", crowded)
    await host.done(wire.CreateContainer(name="a", version=wanted))
    assert wanted.digest in images.images
    with pytest.raises(StorageFull):
        await room.make(10**9, "another one")
    assert wanted.digest not in images.images


async def test_an_error_carries_code_field_value_and_limit(node, host, images):
    images.add(b"base")
    await node.start()
    failure = await (await host.ask(wire.CreateContainer(name="a", image="x", pull="sometimes"))).failure()
    assert (failure.code, failure.name, failure.value, failure.limit) == (
        "invalid",
        "pull",
        "sometimes",
        "missing, always, never",
    )


async def test_a_container_is_packaged_published_and_settled(node, host, medium, images, rooms):
    rooms.rooms["my-env"] = Room(base="", origin="x", files={"/a": b"1"})
    await node.start()
    operation = await host.ask(wire.PackageContainer(name="my-env", number=4, syncer="fake"))
    published = await operation.result(wire.Published)
    assert operation.progress[0] == {"note": "committing"}
    found = published.version
    assert (found.environment, found.number, found.syncer, found.size) == ("my-env", 4, "fake", 4)
    assert found.digest in medium.versions
    assert published.moved > 0
    assert not images.versions
    await host.done(wire.SettleContainer(name="my-env", version=found))
    assert rooms.rooms["my-env"].base == found.digest
    assert not left(node)


async def test_a_context_and_an_archive_come_as_they_were_sent(node, host, medium):
    await node.start()
    for ask in (
        wire.BuildVersion(name="built", number=1, syncer="fake"),
        wire.ImportVersion(name="taken", number=1, syncer="fake"),
    ):
        operation = await host.ask(ask)
        await operation.upload(UPLOAD)
        published = await operation.result(wire.Published)
        _, _, contents = medium.versions[published.version.digest]
        assert list(contents.values()) == [UPLOAD]
    assert not left(node)


async def test_a_refused_archive_is_told_while_more_of_it_comes(node, host, monkeypatch):
    """The words must reach the host although it has not finished sending."""
    monkeypatch.setattr(builders.spool, "MOST_ARCHIVE", 1000)
    await node.start()
    operation = await host.ask(wire.ImportVersion(name="taken", number=1, syncer="fake"))
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(operation.send(*frames(Kind.DATA, bytes(1 << 24))))
        kind, payload = await operation.next()
        await sending
    assert kind is Kind.ERROR
    assert codec.decode(payload, wire.Failure).code == "too_large"
    assert not left(node)


async def test_a_full_disk_refuses_an_upload(node, host, monkeypatch):
    await node.start()
    monkeypatch.setattr(builders.spool, "free", lambda _: 1000)
    operation = await host.ask(wire.ImportVersion(name="taken", number=1, syncer="fake"))
    await operation.upload(b"x")
    assert (await operation.failure()).code == "storage_full"


async def test_an_upload_that_breaks_off_is_no_upload(node, host, rooms, medium):
    await node.start()
    operation = await host.ask(wire.ImportVersion(name="taken", number=1, syncer="fake"))
    await operation.send(frame(Kind.DATA, b"half"))
    await node.until(lambda: left(node))
    operation.close()
    await node.until(lambda: not left(node))
    assert not medium.versions
    assert not rooms.waiting.is_set()


async def test_an_operation_whose_host_is_gone_is_cancelled_and_can_be_asked_again(node, host, rooms, medium):
    rooms.rooms["a"] = Room(base="", origin="x", files={"/a": b"1"})
    rooms.go.clear()
    await node.start()
    ask = wire.PackageContainer(name="a", number=1, syncer="fake")
    operation = await host.ask(ask)
    await rooms.waiting.wait()
    operation.close()
    await node.until(lambda: node.runner._streams == 0)
    assert not medium.versions
    rooms.go.set()
    assert (await host.done(ask))["version"]["number"] == 1


async def test_a_reference_is_published_as_it_is(node, host, images, medium):
    package = images.add(b"base")
    await node.start()
    published = await host.done(wire.PublishReference(name="base", number=1, syncer="fake", image=package.digest))
    assert published["version"]["digest"] == package.digest
    assert package.digest in medium.versions


async def test_what_lies_on_the_medium_is_listed_and_removed(node, host, medium):
    wanted = version(medium, b"base")
    await node.start()
    listed = await host.done(wire.ListStored(syncer="fake"))
    assert [one["version"]["locator"] for one in listed["versions"]] == [wanted.locator]
    await host.done(wire.RemoveVersion(version=wanted))
    assert not medium.versions


async def test_a_sweep_names_the_versions_that_stay(node, host, medium, rooms):
    wanted = version(medium, b"base")
    await node.start()
    await host.done(wire.Sweep(versions=[wanted]))
    assert rooms.swept[0][wanted.digest].environment == "my-env"


async def test_images_are_listed_with_what_they_are(node, host, images):
    package = images.add(b"base")
    images.versions[package.digest] = ("my-env", 3)
    images.used.add(package.digest)
    await node.start()
    listed = await host.done(wire.ListImages())
    assert listed["images"] == [
        {"digest": package.digest, "size": 4, "used": True, "environment": "my-env", "number": 3}
    ]


async def test_files_are_read_written_listed_renamed_and_deleted(node, host, rooms):
    rooms.rooms["a"] = Room(base="", origin="x")
    files = rooms.rooms["a"].files
    await node.start()

    async def verb(verb, path, data=None, **more):
        operation = await host.ask(wire.FileAsk(name="a", verb=verb, path=path, **more))
        if data is not None:
            await operation.upload(data)
        return operation

    assert await (await verb("write", "/f", UPLOAD, size=len(UPLOAD))).result() == {"files": []}
    assert files == {"/f": UPLOAD}
    reading = await verb("read", "/f")
    assert await reading.data(len(UPLOAD)) == UPLOAD
    await reading.result()
    listed = await (await verb("list", "/")).result(wire.FileList)
    assert [(one.name, one.size) for one in listed.files] == [("f", len(UPLOAD))]
    await (await verb("rename", "/f", to="/g")).result()
    assert (await (await verb("stat", "/g")).result(wire.FileList)).files[0].kind == "file"
    await (await verb("delete", "/g")).result()
    assert not files
    for asked, code in (("stat", "not_found"), ("mkdir", "invalid"), ("dance", "invalid")):
        assert (await (await verb(asked, "/g")).failure()).code == code
    assert not left(node)


@pytest.mark.parametrize("data", [b"short", b"much too long"])
async def test_a_file_of_another_size_than_was_said_changes_nothing(node, host, rooms, data):
    rooms.rooms["a"] = Room(base="", origin="x", files={"/f": b"old"})
    await node.start()
    operation = await host.ask(wire.FileAsk(name="a", verb="write", path="/f", size=8))
    await operation.upload(data)
    assert (await operation.failure()).code in {"invalid", "too_large"}
    assert rooms.rooms["a"].files == {"/f": b"old"}


async def test_a_long_list_comes_in_one_result_and_a_longer_one_is_refused(node, host, rooms, monkeypatch):
    names = {f"/{number:04}{'x' * 200}": b"" for number in range(3000)}
    rooms.rooms["a"] = Room(base="", origin="x", files=names)
    await node.start()
    ask = wire.FileAsk(name="a", verb="list", path="/")
    assert len((await host.done(ask))["files"]) == 3000
    monkeypatch.setattr(service, "MOST_RESULT", 1000)
    assert (await (await host.ask(ask)).failure()).code == "too_large"


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        ("no json", "malformed", "not JSON"),
        ('{"op": "dance"}', "invalid", "dance"),
        (wire.ListStored(syncer="nfs"), "invalid", "node n1 has no syncer nfs; it has fake"),
        (wire.StopContainer(name="b"), "not_found", "there is no container b"),
    ],
)
async def test_what_cannot_be_is_told_in_words(node, host, ask, code, words):
    await node.start()
    failure = await (await host.ask(ask)).failure()
    assert failure.code == code
    assert words in failure.message


async def test_a_node_that_keeps_no_containers_says_so(node, host):
    node.kind = FakeBackend
    await node.start()
    for ask, words in (
        (wire.ListContainers(), "node n1 keeps no environment containers: none of its backends can"),
        (wire.ListImages(), "node n1 holds no images: none of its backends takes any"),
    ):
        assert (await (await host.ask(ask)).failure()).message == words


async def test_a_backend_that_is_switched_off_is_not_asked_and_says_why(node, host, images, rooms):
    class Off(PackagingBackend):
        async def probe(self):
            return Probe(usable=False, problems=("switched off in the configuration",))

    node.kind = lambda world: Off(world, images, rooms)
    await node.start()
    for ask in (wire.ListContainers(), wire.ListImages()):
        failure = await (await host.ask(ask)).failure()
        assert (failure.code, failure.message) == ("backend_away", "node n1: switched off in the configuration")
    await node.hands.pass_time(200)
    assert not images.looks


async def test_a_bug_in_a_plugin_ends_the_operation_alone(node, host, rooms, monkeypatch):
    async def crash(self):
        raise ZeroDivisionError("a bug")

    await node.start()
    monkeypatch.setattr(type(rooms), "list", crash)
    failure = await (await host.ask(wire.ListContainers())).failure()
    assert (failure.code, failure.message) == ("plugin", "the node failed: ZeroDivisionError('a bug')")
    monkeypatch.undo()
    assert await host.done(wire.ListContainers()) == {"containers": []}


async def test_progress_is_told_seldom_and_the_newest_wins(node, host, rooms, images, monkeypatch):
    async def commit(self, name, *, force, progress):
        for number in range(1000):
            progress("committing", number, 1000)
            await asyncio.sleep(0)
        await asyncio.to_thread(progress, "from a thread")
        raise PluginError("enough")

    await node.start()
    monkeypatch.setattr(type(rooms), "commit", commit)
    operation = await host.ask(wire.PackageContainer(name="a", number=1, syncer="fake"))
    assert (await operation.failure()).message == "enough"
    assert 0 < len(operation.progress) <= 3


async def test_a_stream_that_speaks_another_language_is_ended(node, host, rooms):
    rooms.rooms["a"] = Room(base="", origin="x")
    await node.start()
    operation = await host.ask(wire.Shell(name="a"))
    await operation.send(b"\x09garbage")
    await operation.ended()
    await node.until(rooms.rooms["a"].terminals[0].closed.is_set)


async def test_a_host_that_cannot_be_reached_is_told_over_the_link(node, peer):
    await node.start()
    object.__setattr__(node.runner.settings, "host_url", "http://127.0.0.1:1")
    await peer.send(Dial(ticket="t", kind="environment", attempt="", arguments={"ask": '{"op": "list"}'}))
    failed = await peer.message(DialFailed)
    assert "no stream to the host" in failed.reason
