"""A task's output wherever it lies: archived here, or at its node over a stream that the node opens."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import timedelta

from kohakuriver.domain.access import Action, Actor
from kohakuriver.domain.attempts import attempt_id
from kohakuriver.domain.tasks import Status, Task
from kohakuriver.errors import Gone, Invalid, NotFound, Unreachable
from kohakuriver.host import records
from kohakuriver.host.cause import by
from kohakuriver.host.changes import Subscription
from kohakuriver.host.host import Host
from kohakuriver.host.streams import Connection
from kohakuriver.host.tasks import find_allowed
from kohakuriver.store.output import StoredOutput, attempt_place, load_output

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
BLOCK = 1 << 18
MOST_FRAME = 1 << 20
#: an offset beyond any output: the node answers it with the total alone
BEYOND = 1 << 62
NOT_STARTED = frozenset({Status.PENDING_APPROVAL, Status.PENDING, Status.ASSIGNED, Status.STARTING})
#: seconds between looks at a task whose node does not answer, or has nothing yet, while its output is followed
AGAIN = 2.0
#: seconds in which a node that was asked for what there is says something
STALLED = 60.0
#: how a stream from a node fails when it was never opened or broke off
BROKEN = (Unreachable, ConnectionError, EOFError)

Chunk = tuple[int, bytes]


@dataclass(kw_only=True)
class Reading:
    """Bytes from `offset` on; `dropped` bytes before it were asked for and are gone. Close it when done.

    `at_least`: more may have been written that nobody took, and nobody knows how much.
    """

    offset: int
    dropped: int
    chunks: AsyncGenerator[bytes]
    at_least: bool = False

    async def close(self) -> None:
        await self.chunks.aclose()


async def read_output(
    host: Host,
    actor: Actor,
    ref: str,
    stream: str,
    *,
    attempt: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    tail: int | None = None,
    follow: bool = False,
) -> Reading:
    """The bytes that a task wrote. `tail` counts from the end and wins over `offset`; `follow` waits for more until the
    attempt ends, over reconnects of its node.

    Raises NotFound, Invalid, Unreachable (the node is away and the output is not archived yet).
    """
    task, ruling = await find_allowed(host, actor, ref, Action.TASK_LOGS)
    if stream not in STREAMS:
        raise NotFound("output streams are stdout and stderr", field="stream", value=stream)
    generation = task.generation if attempt is None else attempt
    # the next attempt may be followed before it begins
    if not 0 <= generation <= task.generation + follow:
        raise NotFound(
            f"the task has {task.generation} attempts", field="attempt", value=attempt, limit=task.generation
        )
    if min(offset, limit or 0, tail or 0) < 0:
        raise Invalid("offsets, limits and tails count from 0", field="offset", value=offset, limit="0 or more")
    if ruling.audited:
        await _audit(host, actor, task)
    source = Source(host=host, task=task.id, generation=generation, stream=stream)
    start = offset if tail is None else max(0, await source.size() - tail)
    if follow and attempt is None and task.status in NOT_STARTED:
        source.generation = 0
    chunks = source.follow(start) if follow else source.read(start)
    reading = await _reading(chunks, start, limit, peek=not follow)
    stored = None if follow else await source.archived()
    reading.at_least = stored is not None and stored.at_least
    return reading


async def _reading(chunks: AsyncGenerator[Chunk], start: int, limit: int | None, *, peek: bool) -> Reading:
    """Asks for the first bytes at once where they need not be waited for, so that their offset and errors are known."""
    first = await anext(chunks, None) if peek else None
    offset = start if first is None else first[0]
    return Reading(offset=offset, dropped=offset - start, chunks=_bytes(first, chunks, limit))


async def _bytes(first: Chunk | None, chunks: AsyncGenerator[Chunk], limit: int | None) -> AsyncGenerator[bytes]:
    left = BEYOND if limit is None else limit
    async with aclosing(chunks):
        if first is not None and left:
            yield first[1][:left]
            left -= len(first[1])
        while left > 0 and (chunk := await anext(chunks, None)) is not None:
            yield chunk[1][:left]
            left -= len(chunk[1])


async def _audit(host: Host, actor: Actor, task: Task) -> None:
    cause = by(actor, owner=host.owners.name(task.owner))
    row = records.event(host.ids.next(), host.clock.now(), "output_read", cause, task=task.id, user=task.owner)
    await host.commits.write(records.events([row]))


@dataclass(kw_only=True)
class Source:
    """One stream of one attempt. Generation 0 stands for the first one that starts."""

    host: Host
    task: int
    generation: int
    stream: str

    @property
    def attempt(self) -> str:
        return attempt_id(self.task, self.generation)

    async def size(self) -> int:
        """Bytes written so far. Raises Unreachable."""
        stored = await self.archived()
        if stored is not None:
            return stored.size
        node = await self._place(await self.host.ledger.find(self.task))
        if node is None:
            return 0
        try:
            async with self._open(node, BEYOND, follow=False) as connection:
                offset, _ = await _frame_soon(connection)
                return offset
        except BROKEN as error:
            stored = await self.archived()
            if stored is None:
                raise _unreachable(error) from None
            return stored.size

    async def read(self, offset: int) -> AsyncGenerator[Chunk]:
        """What there is from the offset on. A node that lets go of it in between leaves the archive to read on from."""
        stored = await self.archived()
        if stored is None:
            node = await self._place(await self.host.ledger.find(self.task))
            if node is None:
                return
            try:
                async for at, data in self._live(node, offset, follow=False):
                    yield at, data
                    offset = at + len(data)
            except BROKEN as error:
                stored = await self.archived()
                if stored is None:
                    raise _unreachable(error) from None
            else:
                return
        async for chunk in self._stored(stored, offset):
            yield chunk

    async def follow(self, offset: int) -> AsyncGenerator[Chunk]:
        """What there is and what comes, until the attempt is over. A node that goes away is waited for."""
        with self.host.changes.subscribe() as changes:
            while True:
                task = await self.host.ledger.find(self.task)
                if not self.generation and (task.final or task.status not in NOT_STARTED):
                    self.generation = task.generation
                stored = await self.archived()
                if stored is not None:
                    async for chunk in self._stored(stored, offset):
                        yield chunk
                    return
                node = await self._place(task)
                if task.status is Status.LOST and not self._past(task):
                    # what there is, or that it cannot be had: nobody knows whether more comes
                    async for chunk in self.read(offset):
                        yield chunk
                    return
                if node is None and (task.final or (self.generation and self._past(task))):
                    return
                try:
                    if node is not None:
                        async for at, data in self._live(node, offset, follow=True):
                            yield at, data
                            offset = at + len(data)
                        # it ends there when the run has ended
                        return
                except BROKEN as error:
                    if self._cut_off(node):
                        raise _unreachable(error) from None
                    log.debug("a followed stream broke", extra={"action": "output", "attempt": self.attempt})
                if not await self._news(changes):
                    return

    async def _news(self, changes: Subscription) -> bool:
        """Waits until the task may have changed, two seconds at most; False when the service stops."""
        try:
            async with asyncio.timeout(AGAIN):
                while (change := await changes.next()) is not None:
                    if change.kind == "lagged" or (change.kind == "task" and change.ref == str(self.task)):
                        return True
        except TimeoutError:
            return True
        return False

    async def archived(self) -> StoredOutput | None:
        return await load_output(self.host.store.reader, self.attempt, self.stream)

    def _cut_off(self, node: int | None) -> bool:
        """Whether waiting for the node is of no use."""
        member = self.host.roster.get(node or 0)
        return member is None or member.revoked

    def _past(self, task: Task) -> bool:
        """Whether this attempt is over, as far as the task goes: there is a later one, or it waits for that."""
        return task.generation > self.generation or (
            task.generation == self.generation and task.status is Status.PENDING
        )

    async def _place(self, task: Task) -> int | None:
        """The node where the attempt's output lies; None when it has none. Raises Gone when it was kept long enough."""
        if not 0 < self.generation <= task.generation or (not self._past(task) and task.status in NOT_STARTED):
            return None
        if self._past(task):
            return await attempt_place(self.host.store.reader, self.attempt)
        days = self.host.settings.output_days
        if days and task.final and task.finished is not None:
            age = self.host.clock.now() - task.finished
            if task.status is not Status.LOST and age > timedelta(days=days):
                raise Gone(f"the output was removed: it is kept for {days} days")
        return None if task.started is None else task.node

    def _open(self, node: int, offset: int, *, follow: bool) -> AbstractAsyncContextManager[Connection]:
        return self.host.streams.open(
            node,
            "output",
            self.attempt,
            stream=self.stream,
            offset=str(offset),
            follow="1" if follow else "0",
        )

    async def _live(self, node: int, offset: int, *, follow: bool) -> AsyncIterator[Chunk]:
        async with self._open(node, offset, follow=follow) as connection:
            while True:
                at, data = await (_frame(connection) if follow else _frame_soon(connection))
                if not data:
                    return
                yield at, data

    async def _stored(self, stored: StoredOutput, offset: int) -> AsyncIterator[Chunk]:
        """Head and tail, with the gap between them left out."""
        tail_from = stored.size - stored.tail
        if offset < stored.head:
            async for chunk in self._kept(stored, offset, stored.head, 0):
                yield chunk
        async for chunk in self._kept(stored, max(offset, tail_from), stored.size, tail_from - stored.head):
            yield chunk

    async def _kept(self, stored: StoredOutput, start: int, end: int, shift: int) -> AsyncIterator[Chunk]:
        """Offsets from `start` to `end`; `shift` is how far they lie before their place in what is kept."""
        while start < end:
            count = min(BLOCK, end - start)
            if stored.data is not None:
                data = stored.data[start - shift : start - shift + count]
            else:
                data = await self._blob(stored.path or "", start - shift, count)
            if not data:
                raise Gone(f"the archived output is damaged: {end - start} bytes are missing at {start}")
            yield start, data
            start += len(data)

    async def _blob(self, path: str, offset: int, count: int) -> bytes:
        try:
            return await self.host.blobs.read(path, offset, count)
        except FileNotFoundError:
            raise Gone("the output was removed: it was kept long enough") from None


def _unreachable(error: Exception) -> Unreachable:
    """The error in words for people, whatever way the stream failed."""
    return error if isinstance(error, Unreachable) else Unreachable("the stream from the node broke off; try again")


async def _frame_soon(connection: Connection) -> Chunk:
    """A frame that need not be waited for. Raises Unreachable when the node says nothing."""
    try:
        async with asyncio.timeout(STALLED):
            return await _frame(connection)
    except TimeoutError:
        raise Unreachable("the node opened the stream and says nothing; try again") from None


async def _frame(connection: Connection) -> Chunk:
    """Offset and bytes; no bytes at the end. Raises EOFError or ConnectionError when the stream broke off."""
    head = await connection.read_exactly(12)
    offset, count = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
    if count > MOST_FRAME:
        raise ConnectionError(f"the node sent a frame of {count} bytes")
    return offset, await connection.read_exactly(count) if count else b""
