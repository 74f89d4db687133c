"""Images that nothing uses go, by age and for want of room; nothing else ever does."""

import asyncio

import pytest

from kohakuriver.errors import BackendAway, StorageFull
from kohakuriver.runner.environments import prune
from kohakuriver.runner.environments.prune import DAY, EVERY_SECONDS, MARGIN, Room
from kohakuriver.runner.environments.stock import Stock
from kohakuriver.testing.environments import PackagingBackend
from kohakuriver.testing.fakes import World

from .conftest import assign, version


class Disk:
    """So much is free; each image that goes frees a gigabyte."""

    def __init__(self, images, free):
        self.images = images
        self.free = free
        self.before = None

    def __call__(self, place):
        if self.before is None:
            self.before = len(self.images.images)
        return self.free + (self.before - len(self.images.images)) * 10**9


@pytest.fixture
def hands(lab):
    """Time, moved by the test."""
    return lab.hands


@pytest.fixture
async def make(images, tmp_path, hands):
    async def made(*, busy=(), unused_days=30, floor=0, trouble=lambda name: None):
        backend = PackagingBackend(World(), images)
        stock = Stock(backend, images)
        room = Room(
            place=tmp_path,
            clock=hands.clock(),
            in_thread=asyncio.to_thread,
            stocks={"fake": stock},
            busy=lambda: frozenset(busy),
            trouble=trouble,
            unused_seconds=unused_days * DAY,
            floor=floor,
        )
        await room.load()
        return room

    return made


def held(images, *numbers):
    """Versions of an environment that are here, by digest."""
    found = []
    for number in numbers:
        package = images.add(f"version {number}".encode())
        images.versions[package.digest] = ("my-env", number)
        found.append(package.digest)
    return found


async def test_what_was_not_used_for_so_long_goes_and_nothing_else(images, make, hands):
    old, busy, used, touched = held(images, 1, 2, 3, 4)
    foreign = images.add(b"somebody's own").digest
    images.used.add(used)
    room = await make(busy=[busy])
    await room.tick()
    hands.now += 20 * DAY
    room.touch(touched)
    hands.now += 11 * DAY
    await room.tick()
    assert set(images.images) == {busy, used, touched, foreign}
    assert old not in images.images


async def test_the_last_use_is_known_after_a_restart(images, make, hands):
    (digest,) = held(images, 1)
    await (await make()).tick()
    hands.now += 31 * DAY
    await (await make()).tick()
    assert digest not in images.images


@pytest.mark.parametrize("text", ["no json", "[]", '{"sha256:x": "never"}'])
async def test_a_damaged_record_counts_everything_as_used_now(images, make, hands, tmp_path, text):
    (digest,) = held(images, 1)
    (tmp_path / "used.json").write_text(text)
    room = await make()
    await room.tick()
    hands.now += 29 * DAY
    await room.tick()
    assert digest in images.images


async def test_nothing_goes_for_its_age_where_that_is_switched_off(images, make, hands):
    held(images, 1, 2)
    room = await make(unused_days=0)
    await room.tick()
    hands.now += 4000 * DAY
    await room.tick()
    assert len(images.images) == 2


async def test_below_the_floor_the_longest_unused_go_until_there_is_enough(images, make, hands, monkeypatch):
    digests = held(images, 1, 2, 3, 4)
    room = await make(floor=10 * 10**9)
    for digest in digests:
        room.touch(digest)
        hands.now += 10
    monkeypatch.setattr(prune, "free", Disk(images, 8 * 10**9))
    hands.now += DAY
    await room.tick()
    assert set(images.images) == set(digests[2:])


async def test_below_the_floor_what_was_used_today_stays(images, make, hands, monkeypatch):
    held(images, 1, 2)
    room = await make(floor=10 * 10**9)
    monkeypatch.setattr(prune, "free", Disk(images, 8 * 10**9))
    await room.tick()
    assert len(images.images) == 2


async def test_a_fetch_without_room_takes_what_nothing_uses_even_of_today(images, make, monkeypatch):
    first, second, busy = held(images, 1, 2, 3)
    room = await make(floor=10 * 10**9, busy=[busy])
    await room._stocks["fake"].look()
    monkeypatch.setattr(prune, "free", Disk(images, MARGIN))
    assert await room.make(2 * 10**9, "my-env v4")
    assert set(images.images) == {busy}
    with pytest.raises(StorageFull, match="my-env v4 may take 2861 MiB"):
        await room.make(3 * 10**9, "my-env v4")
    assert {first, second}.isdisjoint(images.images)


async def test_a_fetch_with_room_takes_nothing(images, make, monkeypatch):
    held(images, 1)
    room = await make(floor=10 * 10**9)
    await room._stocks["fake"].look()
    monkeypatch.setattr(prune, "free", Disk(images, MARGIN + 10))
    assert not await room.make(10, "my-env v4")
    assert len(images.images) == 1


async def test_a_backend_that_cannot_be_used_is_left_in_peace(images, make):
    held(images, 1)
    room = await make(trouble=lambda name: "switched off")
    await room.tick()
    assert not images.looks


async def test_what_the_backend_keeps_is_still_known_to_be_there(images, make, hands, monkeypatch):
    (digest,) = held(images, 1)
    room = await make()
    await room.tick()
    hands.now += 31 * DAY

    async def refuses(self, digest):
        return False

    monkeypatch.setattr(type(images), "drop", refuses)
    await room.tick()
    assert room._stocks["fake"].has(digest)


async def test_it_goes_on_after_a_backend_was_away(images, make, hands, monkeypatch):
    (digest,) = held(images, 1)
    room = await make()
    await room.tick()
    asked = asyncio.Event()

    async def away(self):
        asked.set()
        raise BackendAway("the runtime does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(images), "held", away)
        running = asyncio.get_running_loop().create_task(room.run())
        while not asked.is_set():
            hands.advance(EVERY_SECONDS)
            await asyncio.sleep(0.001)
    while digest in images.images:
        hands.advance(DAY)
        await asyncio.sleep(0.001)
    running.cancel()


async def test_an_image_stays_while_an_attempt_of_this_node_names_it(node, peer, images, medium):
    wanted = version(medium, b"base")
    peer.forget_ended = False
    await node.start(image_unused_days=1)
    await assign(peer, "7.1", wanted, "say", "", "", "0")
    await peer.report("7.1", "exited")
    room = node.runner.attempts.desk.environments._room
    await room.tick()
    node.hands.now += 3 * DAY
    await room.tick()
    assert wanted.digest in images.images
    await peer.drop()
    peer.forget_ended = True
    await node.passing(lambda: not node.entries)
    node.hands.now += 3 * DAY
    await room.tick()
    assert wanted.digest not in images.images


async def test_a_fault_of_a_backend_stops_no_pruning(images, make, hands, monkeypatch):
    (digest,) = held(images, 1)
    room = await make()
    await room.tick()
    asked = asyncio.Event()

    async def faulty(self):
        asked.set()
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(type(images), "held", faulty)
        running = asyncio.get_running_loop().create_task(room.run())
        while not asked.is_set():
            hands.advance(EVERY_SECONDS)
            await asyncio.sleep(0.001)
    while digest in images.images:
        assert not running.done()
        hands.advance(DAY)
        await asyncio.sleep(0.001)
    running.cancel()


async def test_what_went_while_somebody_looked_is_not_thought_to_be_there(images, make, hands, monkeypatch):
    (digest,) = held(images, 1)
    room = await make()
    await room.tick()
    hands.now += 31 * DAY
    stock = room._stocks["fake"]
    drop = type(images).drop

    async def slow(self, digest):
        await stock.look()
        return await drop(self, digest)

    monkeypatch.setattr(type(images), "drop", slow)
    await room.tick()
    assert digest not in images.images
    assert not stock.has(digest)
