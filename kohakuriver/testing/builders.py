"""A builder of a few lines: opens the streams that the host asks for, in memory, and answers as a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from kohakuriver.testing.runners import PATIENCE, Peer
from kohakuriver.wire import codec, frames, link
from kohakuriver.wire.environments import (
    STREAM_KIND,
    AnyAsk,
    Ask,
    BuildVersion,
    Containers,
    CreateContainer,
    Done,
    Failure,
    FileAsk,
    FileList,
    Images,
    ImportVersion,
    ListContainers,
    ListImages,
    ListStored,
    OperationProgress,
    PackageContainer,
    Published,
    PublishReference,
    StoredVersions,
)
from kohakuriver.wire.environments import Container as ContainerAnswer
from kohakuriver.wire.frames import Kind

BACKEND = link.BackendInfo(name="boxes", images=["oci"], capabilities=["CanPackage", "CanEnvironments"])
#: between two looks at what the host has asked
LOOK_SECONDS = 0.005
DIGEST = "sha256:" + "d" * 64


class End:
    """One end of a stream in memory, as `host.streams.Connection`."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()
        self.other: End | None = None
        self.closed = asyncio.Event()

    async def read(self, most: int) -> bytes:
        return await self._reader.read(most)

    async def read_exactly(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def read_line(self) -> bytes:
        return await self._reader.readline()

    async def write(self, data: bytes) -> None:
        """Raises ConnectionResetError once either end is closed."""
        assert self.other is not None
        if self.closed.is_set() or self.other.closed.is_set():
            raise ConnectionResetError("the stream is closed")
        self.other.feed(data)

    def feed(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def close(self) -> None:
        for end in (self, self.other):
            if end is not None and not end.closed.is_set():
                end.closed.set()
                end.end()

    def end(self) -> None:
        self._reader.feed_eof()


def pair() -> tuple[End, End]:
    """Two ends of one stream."""
    one, other = End(), End()
    one.other, other.other = other, one
    return one, other


@dataclass(kw_only=True)
class Talk:
    """The builder's side of one question."""

    ask: Ask
    end: End
    reader: frames.Reader = field(default_factory=frames.Reader)

    async def heard(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """What the host sends."""
        while data := await self.end.read(65_536):
            for one in self.reader.feed(data):
                yield one

    async def upload(self) -> bytes:
        """All data up to its end. Raises EOFError when it breaks off."""
        data = b""
        async for kind, payload in self.heard():
            if kind is Kind.END:
                return data
            data += payload
        raise EOFError("the upload broke off")

    async def tell(self, note: str, done: int | None = None, total: int | None = None) -> None:
        told = OperationProgress(note=note, done=done, total=total)
        await self.end.write(frames.frame(Kind.PROGRESS, codec.encode(told)))

    async def data(self, data: bytes) -> None:
        for one in frames.frames(Kind.DATA, data):
            await self.end.write(one)

    async def result(self, answer: msgspec.Struct) -> None:
        await self.end.write(frames.frame(Kind.RESULT, codec.encode(answer)))

    async def fail(self, code: str, message: str) -> None:
        await self.end.write(frames.frame(Kind.ERROR, codec.encode(Failure(code=code, message=message))))


Answer = Callable[[Talk], Awaitable[None]]


class Builder:
    """Answers every question: as `answers` says for its kind, else well."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.asked: list[Ask] = []
        self.answers: dict[type[Ask], Answer] = {}
        self._news = asyncio.Condition()
        peer.backends = [BACKEND]

    def of(self, kind: type[Ask]) -> list[Ask]:
        return [ask for ask in self.asked if isinstance(ask, kind)]

    async def heard(self, kind: type[Ask], count: int = 1) -> Ask:
        """The `count`-th question of this kind."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def run(self) -> None:
        """Opens what is asked for, also over new sessions, until cancelled."""
        seen: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for dial in self.peer.pipe.of(link.Dial):
                    if dial.ticket not in seen and dial.kind == STREAM_KIND:
                        seen.add(dial.ticket)
                        await self._open(dial, group)
                await asyncio.sleep(LOOK_SECONDS)

    async def _open(self, dial: link.Dial, group: asyncio.TaskGroup) -> None:
        ask: Ask = codec.decode(dial.arguments["ask"], AnyAsk)
        mine, theirs = pair()
        streams = self.peer.host.streams
        ticket = streams.take(dial.ticket, self.peer.member.id)
        group.create_task(streams.serve(ticket, theirs))
        group.create_task(self._answer(Talk(ask=ask, end=mine)))
        async with self._news:
            self.asked.append(ask)
            self._news.notify_all()

    async def _answer(self, talk: Talk) -> None:
        try:
            await self.answers.get(type(talk.ask), well)(talk)
        except (ConnectionError, EOFError):
            # the host has hung up, as it may
            return
        finally:
            talk.end.close()


async def well(talk: Talk) -> None:
    """The answer of a builder that can do everything."""
    match talk.ask:
        case BuildVersion() | ImportVersion():
            await talk.upload()
            await talk.result(published(talk.ask))
        case PackageContainer() | PublishReference():
            await talk.tell("exporting", 1, 2)
            await talk.result(published(talk.ask))
        case CreateContainer(name=name):
            await talk.result(ContainerAnswer(name=name, state="running"))
        case ListContainers():
            await talk.result(Containers())
        case ListImages():
            await talk.result(Images())
        case ListStored():
            await talk.result(StoredVersions())
        case FileAsk():
            await talk.result(FileList())
        case _:
            await talk.result(Done())


def published(ask: BuildVersion | ImportVersion | PackageContainer | PublishReference, **more: object) -> Published:
    """The version that was asked for."""
    values = {"environment": ask.name, "number": ask.number, "digest": DIGEST, "syncer": ask.syncer, "size": 7, **more}
    return Published(version=msgspec.convert(values, link.WireVersion), moved=5)


@asynccontextmanager
async def building(peer: Peer) -> AsyncIterator[Builder]:
    """A connected builder for the length of the block."""
    builder = Builder(peer)
    task = peer.host.group.create_task(builder.run())
    try:
        await peer.connect()
        yield builder
    finally:
        task.cancel()
