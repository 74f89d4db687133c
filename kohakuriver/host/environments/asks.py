"""Asks a runner something about environments: one stream of frames a question (wire/frames.py). Knows no store.

Runners are not trusted: an answer that cannot be read is an error of theirs, never one of ours.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kohakuriver import errors
from kohakuriver.host.roster import Roster
from kohakuriver.host.streams import Connection, Streams
from kohakuriver.wire import codec, frames
from kohakuriver.wire.environments import STREAM_KIND, Ask, Failure, OperationProgress
from kohakuriver.wire.frames import Kind
from kohakuriver.wire.link import MOST_MESSAGE

Answer = TypeVar("Answer")

#: bytes of one read
PIECE = 256 * 1024
#: bytes of a question; the message that carries it has other fields and escapes
MOST_ASK = MOST_MESSAGE // 2
#: seconds for what is answered at once, and for what takes long
SHORT, LONG = 120.0, 12 * 3600.0
LONGEST_WORDS = 4000
#: what a runner may say of its failure; anything else is the plugin's
_CODES: dict[str, type[errors.KohakuRiverError]] = {
    kind.code: kind
    for kind in (
        errors.BackendAway, errors.Conflict, errors.Gone, errors.Invalid, errors.Malformed, errors.NotFound,
        errors.NotReady, errors.PluginError, errors.StorageFull, errors.TooLarge, errors.Unreachable,
    )
}  # fmt: skip

Told = Callable[[OperationProgress], None]
Feed = Callable[["Conversation"], Awaitable[None]]


@dataclass(kw_only=True)
class Conversation:
    """One question that is being answered."""

    connection: Connection
    reader: frames.Reader

    async def send(self, kind: Kind, data: bytes = b"") -> None:
        """One frame, or as many as the data needs. Raises Unreachable when the runner is gone."""
        try:
            if len(data) <= frames.MOST_PAYLOAD:
                await self.connection.write(frames.frame(kind, data))
                return
            for one in frames.frames(kind, data):
                await self.connection.write(one)
        except OSError:
            raise errors.Unreachable("the node broke off; try again") from None

    async def frames(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """What the runner says, until it ends. Raises Unreachable, PluginError for what are no frames."""
        try:
            while data := await self.connection.read(PIECE):
                for one in self.reader.feed(data):
                    yield one
        except OSError:
            raise errors.Unreachable("the node broke off; try again") from None
        except errors.Malformed as error:
            raise errors.PluginError(f"the node sent what cannot be read: {error.message}") from None


class Asker:
    """Opens the streams."""

    def __init__(self, streams: Streams, roster: Roster) -> None:
        self._streams = streams
        self._roster = roster

    @asynccontextmanager
    async def opened(self, node: int, question: Ask) -> AsyncIterator[Conversation]:
        """A conversation for the length of the block. Raises Unreachable, TooLarge."""
        member = self._roster.get(node)
        if member is None or not member.connected:
            name = "the node" if member is None else member.name
            raise errors.Unreachable(f"{name} is not connected; try again when it is back")
        text = codec.encode(question).decode()
        if len(text) > MOST_ASK:
            raise errors.TooLarge(f"the question has {len(text)} bytes, at most {MOST_ASK}", limit=MOST_ASK)
        async with self._streams.open(node, STREAM_KIND, "", ask=text) as connection:
            yield Conversation(connection=connection, reader=frames.Reader())

    async def ask(
        self,
        node: int,
        question: Ask,
        answer: type[Answer],
        *,
        told: Told | None = None,
        feed: Feed | None = None,
        limit: float = SHORT,
    ) -> Answer:
        """What the runner answers, within `limit` seconds. `feed` sends what belongs to the question, beside.

        Raises what the runner says went wrong; Unreachable when it breaks off, PluginError for nonsense.
        """
        try:
            async with asyncio.timeout(limit), self.opened(node, question) as talk:
                if feed is None:
                    return await _answered(talk, answer, told)
                return await _fed(talk, answer, told, feed)
        except TimeoutError:
            raise errors.Unreachable(f"the node did not answer within {limit:g} s") from None


async def _fed(talk: Conversation, answer: type[Answer], told: Told | None, feed: Feed) -> Answer:
    """An end that comes before everything was sent counts: what is left is not sent any more."""
    async with asyncio.TaskGroup() as group:
        result = group.create_task(_outcome(_answered(talk, answer, told)))
        feeding = group.create_task(_outcome(feed(talk)))
        await asyncio.wait({result, feeding}, return_when=asyncio.FIRST_COMPLETED)
        failed = None if result.done() else feeding.result()[1]
        if failed is None or isinstance(failed, errors.Unreachable):
            # what the runner said before it broke off says more
            await asyncio.wait({result}, timeout=None if failed is None else SHORT)
        answered = result.done()
        result.cancel()
        feeding.cancel()
    found, error = result.result() if answered else (None, failed)
    if error is not None:
        raise error
    return cast("Answer", found)


async def _outcome(work: Awaitable[Any]) -> tuple[Any, errors.KohakuRiverError | None]:
    try:
        return await work, None
    except errors.KohakuRiverError as error:
        return None, error


async def _answered(talk: Conversation, answer: type[Answer], told: Told | None) -> Answer:
    async for kind, payload in talk.frames():
        if kind is Kind.PROGRESS and told is not None:
            told(_progress(payload))
        elif kind is Kind.RESULT:
            return cast("Answer", read(payload, answer))
        elif kind is Kind.ERROR:
            raise failure(payload)
    raise errors.Unreachable("the node ended without an answer; try again")


def read(payload: bytes, kind: Any) -> Any:
    """What a frame says. Raises PluginError."""
    try:
        return codec.decode(payload, kind)
    except errors.KohakuRiverError as error:
        raise errors.PluginError(f"the node's answer cannot be read: {error.message}") from None


def failure(payload: bytes) -> errors.KohakuRiverError:
    """The error that a runner tells of."""
    try:
        told: Failure = codec.decode(payload, Failure)
    except errors.KohakuRiverError:
        return errors.PluginError("the node failed and did not say why in a way that can be read")
    kind = _CODES.get(told.code, errors.PluginError)
    words = told.message[:LONGEST_WORDS] or "the node failed and did not say why"
    return kind(words, field=told.name, value=told.value, limit=told.limit)


def _progress(payload: bytes) -> OperationProgress:
    try:
        told: OperationProgress = codec.decode(payload, OperationProgress)
    except errors.KohakuRiverError:
        return OperationProgress(note="")
    return told
