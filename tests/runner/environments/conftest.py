"""A runner whose backend keeps images and environment containers, a medium, and a host that asks over streams."""

import asyncio
import contextlib

import pytest

from kohakuriver.testing.environments import FakeSyncer, LocalImages, Medium, PackagingBackend, Rooms
from kohakuriver.testing.syncing import make_image
from kohakuriver.wire import codec, frames
from kohakuriver.wire.environments import Ask, Failure
from kohakuriver.wire.frames import Kind
from kohakuriver.wire.link import Dial, Progress, WireReserved, WireVersion

PATIENCE = 60.0
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: kohakuriver-stream\r\n\r\n"


class Operation:
    """The host's end of one stream."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.progress = []
        self._frames = frames.Reader()
        self._ready = []

    async def send(self, *parts):
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    async def upload(self, data):
        await self.send(*frames.frames(Kind.DATA, data), frames.frame(Kind.END))

    async def next(self):
        """The next frame that is no progress; None at the end."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._ready:
                    kind, payload = self._ready.pop(0)
                    if kind is not Kind.PROGRESS:
                        return kind, payload
                    self.progress.append(codec.decode(payload, dict))
                data = await self.reader.read(65536)
                if not data:
                    return None
                self._ready = list(self._frames.feed(data))

    async def data(self, count):
        """So many bytes."""
        got = b""
        while len(got) < count:
            kind, payload = await self.next()
            assert kind is Kind.DATA, payload
            got += payload
        return got

    async def result(self, kind=dict):
        """The result; asserts that it is one."""
        got, payload = await self.next()
        assert got is Kind.RESULT, payload
        self.close()
        return codec.decode(payload, kind)

    async def failure(self):
        got, payload = await self.next()
        assert got is Kind.ERROR, payload
        self.close()
        return codec.decode(payload, Failure)

    def close(self):
        self.writer.close()

    async def ended(self):
        """Waits until the node has closed the stream."""
        with contextlib.suppress(ConnectionError):
            assert await self.next() is None


class Asking:
    """Streams that the host opens by dialling."""

    def __init__(self, lab, peer):
        self.lab = lab
        self.peer = peer
        self.arrived = asyncio.Queue()
        self.opened = []
        self.server = None

    async def ask(self, ask):
        if self.server is None:
            self.server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        object.__setattr__(self.lab.runner.settings, "host_url", url)
        text = codec.encode(ask).decode() if isinstance(ask, Ask) else ask
        await self.peer.send(Dial(ticket="ticket", kind="environment", attempt="", arguments={"ask": text}))
        async with asyncio.timeout(PATIENCE):
            operation = await self.arrived.get()
        self.opened.append(operation)
        return operation

    async def done(self, ask):
        return await (await self.ask(ask)).result()

    async def _take(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        self.arrived.put_nowait(Operation(reader, writer))

    async def close(self):
        for operation in self.opened:
            operation.writer.transport.abort()
        if self.server is not None:
            self.server.close()


@pytest.fixture
def images():
    return LocalImages()


@pytest.fixture
def rooms(images):
    return Rooms(images)


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def node(lab, images, rooms, medium):
    """The lab with images and a syncer."""
    lab.kind = lambda world: PackagingBackend(world, images, rooms)
    lab.syncers = [FakeSyncer(medium)]
    return lab


@pytest.fixture
async def host(node, peer):
    asking = Asking(node, peer)
    yield asking
    await asking.close()


def version(medium, *layers, name="my-env", number=3, syncer="fake", size=910_000_000):
    """A version that lies on the medium."""
    package, contents = make_image(*layers)
    stored = medium.add(package, contents, name, number)
    return WireVersion(
        environment=name, number=number, digest=package.digest, syncer=syncer, locator=stored.locator, size=size
    )


async def assign(peer, attempt, wanted, *argv, **fields):
    """A task in an environment."""
    fields = {"reserved": WireReserved(cpu_milli=10), "image": None, **fields}
    container = f"{wanted.environment}:{wanted.number}"
    return await peer.assign(attempt, *argv, container=container, environment=wanted, **fields)


def notes(peer, attempt):
    """What was told of its progress."""
    return [message.note for message in peer.received if isinstance(message, Progress) and message.attempt == attempt]
