"""A runner of a few lines that says what a test tells it to, over a link in memory: no socket, no sleeping."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.host.streams import Connection, Ticket
from kohakuriver.store.models import NodeRow
from kohakuriver.store.nodes import ACTIVE
from kohakuriver.store.write import insert
from kohakuriver.wire import codec, link

Kind = TypeVar("Kind", bound=link.Message)

GIB = 1024**3
PATIENCE = 30.0


class Pipe:
    """The host's end of a link as `host.session.Channel`; a test holds the other end."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._gone = False
        #: a peer that does not read: what the host sends waits
        self.reads = asyncio.Event()
        self.reads.set()
        #: what the host said, in order
        self.said: list[link.Message] = []
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> bytes | None:
        return None if self._gone and self._inbox.empty() else await self._inbox.get()

    async def send(self, data: bytes) -> None:
        """Raises ConnectionResetError when the runner is gone."""
        await self.reads.wait()
        if self._gone:
            raise ConnectionResetError("the runner is gone")
        async with self._news:
            self.said.append(codec.decode(data, link.FromHost))
            self._news.notify_all()

    async def close(self, code: int, reason: str) -> None:
        async with self._news:
            self.closed = self.closed or (code, reason)
            self._news.notify_all()
        self.hang_up()

    def feed(self, message: link.Message | bytes) -> None:
        """The runner says something."""
        self._inbox.put_nowait(message if isinstance(message, bytes) else codec.encode(message))

    def hang_up(self) -> None:
        """The connection is gone; what was said before is still read."""
        self._gone = True
        self.reads.set()
        self._inbox.put_nowait(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition holds; looked at with every message of the host and at the end."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(condition)

    async def heard(self, kind: type[Kind], count: int = 1) -> Kind:
        """The `count`-th message of this kind."""
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.said if isinstance(message, kind)]


class Peer:
    """A node's runner: its numbers, and the session that it has just now."""

    def __init__(self, host: Host, member: Member, *, cpus: int = 4, memory: int = 8 * GIB) -> None:
        self.host = host
        self.member = member
        self.epoch = 1
        self.seq = 0
        self.cells = [link.WireCell(cpus=list(range(cpus)), memory=memory)]
        self.backends = [link.BackendInfo(name="process")]
        self.pipe = Pipe()
        self.serving: asyncio.Task[None] | None = None
        self._sessions = 0

    def begin(self) -> Pipe:
        """Connects and says nothing."""
        self.pipe = Pipe()
        self.serving = self.host.group.create_task(self.host.links.serve(self.pipe, self.member))
        return self.pipe

    def hello(self, **fields: Any) -> link.Hello:
        self._sessions += 1
        given = {
            "epoch": self.epoch,
            "boot": "boot-1",
            "session": f"{self.member.name}-{self.epoch}-{self._sessions}",
            "cluster": self.host.store.cluster,
            "cells": self.cells,
            "backends": self.backends,
            **fields,
        }
        return link.Hello(**given)

    async def connect(self, held: Sequence[link.Held] = (), **fields: Any) -> Pipe:
        """A whole opening, until the session is live."""
        pipe = self.begin()
        pipe.feed(self.hello(**fields))
        await pipe.heard(link.Welcome)
        pipe.feed(link.Inventory(held=list(held)))
        await pipe.until(lambda: any(page.complete for page in pipe.of(link.WantedSet)) or pipe.closed is not None)
        return pipe

    def report(self, what: str, attempt: str, **fields: Any) -> link.Report:
        """A report with the next number."""
        self.seq += 1
        return link.Report(seq=self.seq, attempt=attempt, what=what, **fields)

    async def tell(self, what: str, attempt: str, **fields: Any) -> None:
        """Reports, and waits for the acknowledgement."""
        await self.send(self.report(what, attempt, **fields))

    async def send(self, *reports: link.Report) -> None:
        """Sends reports as they are, and waits until the highest is acknowledged."""
        for report in reports:
            self.pipe.feed(report)
        await self.acknowledged(max(report.seq for report in reports))

    async def acknowledged(self, seq: int) -> None:
        pipe = self.pipe
        await pipe.until(lambda: any(ack.seq >= seq for ack in pipe.of(link.Ack)))

    async def drop(self) -> None:
        """Loses the link; returns when the host knows."""
        self.pipe.hang_up()
        if self.serving is not None:
            await self.serving


class Bytes:
    """A stream that a runner opened, as `host.streams.Connection`: it sends what it was given, then ends or hangs."""

    def __init__(self, data: bytes, *, hangs: bool = False, breaks: bool = False) -> None:
        self._reader = asyncio.StreamReader()
        self._reader.feed_data(data)
        if breaks:
            self._reader.set_exception(ConnectionResetError("the stream broke"))
        elif not hangs:
            self._reader.feed_eof()
        self.closed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._reader.feed_data(data)

    async def read(self, most: int) -> bytes:
        return await self._reader.read(most)

    async def read_exactly(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def read_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:
            raise ConnectionError("a line without end") from None

    async def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.closed.set()
        if not self._reader.at_eof() and self._reader.exception() is None:
            self._reader.feed_eof()


async def answer(peer: Peer, connection: Connection, *, count: int = 1) -> tuple[link.Dial, asyncio.Task[None]]:
    """Opens the stream that the host asked for `count`-th, as the node would."""
    dial = await peer.pipe.heard(link.Dial, count)
    ticket: Ticket = peer.host.streams.take(dial.ticket, peer.member.id)
    return dial, peer.host.group.create_task(peer.host.streams.serve(ticket, connection))


async def add_node(host: Host, name: str = "node1", **more: Any) -> Peer:
    """An enrolled node, not connected."""
    member = Member(id=host.ids.next(), name=name, created=host.clock.now())
    values = {
        "id": member.id,
        "name": name,
        "state": ACTIVE,
        "credential": f"c{member.id % 10**8}",
        "credential_hash": "",
        "created": member.created,
    }
    await host.store.writer.write([insert(NodeRow, **values)])
    host.roster.add(member)
    return Peer(host, member, **more)
