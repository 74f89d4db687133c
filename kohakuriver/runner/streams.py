"""Streams that the host asked for: the runner dials, then writes output or does what is asked. Knows no HTTP."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator

import msgspec

from kohakuriver.errors import KohakuRiverError, NotFound
from kohakuriver.net.streams import open_stream
from kohakuriver.runner.desk import Desk
from kohakuriver.runner.output import STREAMS, EndedStream, Readable
from kohakuriver.wire import codec
from kohakuriver.wire.environments import STREAM_KIND
from kohakuriver.wire.link import Dial, Report, Sealed

log = logging.getLogger(__name__)

MOST_FRAME = 64 * 1024
#: a peer that takes nothing for so long is gone
STALLED = 60.0
FRAME = struct.Struct(">QI")


async def serve_dial(desk: Desk, dial: Dial) -> str | None:
    """Serves one dialled stream to its end. Returns why there can be none, or None when it was served or broke.

    Cancelling it closes the connection.
    """
    try:
        pieces = None if dial.kind == STREAM_KIND else await _pieces(desk, dial)
    except KohakuRiverError as error:
        return error.message
    except OSError as error:
        return f"its output cannot be opened: {error.strerror or error}"
    settings = desk.settings
    try:
        reader, writer = await open_stream(
            f"{settings.host_url.rstrip('/')}/stream/{dial.ticket}",
            credential=settings.credential,
            fingerprint=settings.fingerprint,
        )
    except KohakuRiverError as error:
        return error.message
    try:
        if pieces is None:
            await desk.environments.serve(reader, writer, dial.arguments.get("ask", ""))
        else:
            await _write(reader, writer, pieces)
    except* (OSError, TimeoutError) as group:
        log.info(
            "a stream broke", extra={"attempt": dial.attempt, "kind": dial.kind, "error": str(group.exceptions[0])}
        )
    finally:
        writer.transport.abort()
    return None


async def _pieces(desk: Desk, dial: Dial) -> AsyncIterator[bytes]:
    entry = desk.journal.attempts.get(dial.attempt)
    if entry is None:
        raise NotFound(f"attempt {dial.attempt} is not held here")
    if dial.kind == "archive":
        if not entry.done:
            raise NotFound(f"attempt {dial.attempt} has not ended; its output is not sealed")
        return _archive({name: await _ended(desk, dial.attempt, name) for name in STREAMS})
    if dial.kind != "output":
        raise NotFound(f"this runner serves no {dial.kind!r} streams")
    name = dial.arguments.get("stream", "stdout")
    if name not in STREAMS:
        raise NotFound(f"there is no stream {name!r}")
    offset = codec.convert(dial.arguments.get("offset", "0"), int)
    source: Readable
    if entry.done:
        source = await _ended(desk, dial.attempt, name)
    else:
        source = await _live(desk, dial.attempt, name)
    return frames(source, max(0, offset), follow=dial.arguments.get("follow") == "1")


async def _live(desk: Desk, attempt: str, stream: str) -> Readable:
    """A stream of an attempt that had not ended a moment ago; if it has meanwhile, nobody else would end this one."""
    live = await desk.output.live(attempt)
    entry = desk.journal.attempts.get(attempt)
    if entry is not None and not entry.done:
        return live.streams[stream]
    desk.output.close(attempt)
    return await _ended(desk, attempt, stream)


async def _ended(desk: Desk, attempt: str, stream: str) -> EndedStream:
    final: Report | None = await desk.journal.final(attempt)
    if final is None:
        raise NotFound(f"attempt {attempt} is not held here any more")
    sealed: Sealed | None = getattr(final, stream, None)
    return await desk.output.ended(attempt, stream, sealed or Sealed())


async def _archive(streams: dict[str, EndedStream]) -> AsyncIterator[bytes]:
    header = {name: msgspec.structs.replace(stream.sealed, data=None) for name, stream in streams.items()}
    yield codec.encode(header) + b"\n"
    for stream in streams.values():
        sealed, at = stream.sealed, 0
        while at < sealed.size:
            found, data = await stream.read(at, MOST_FRAME)
            if not data:
                break
            yield data
            at = found + len(data)


async def frames(source: Readable, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
    """The stream from the offset on as frames; the last one is empty and tells the total."""
    while True:
        ended, size = source.ended, source.size
        at, data = await source.read(offset, MOST_FRAME) if offset < size else (offset, b"")
        if data:
            yield FRAME.pack(at, len(data)) + data
            offset = at + len(data)
        elif offset < size:
            offset = size  # what lay here was dropped
        elif ended or not follow:
            yield FRAME.pack(size, 0)
            return
        else:
            await source.more(offset)


async def _write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    """Writes all pieces; gives up when the peer closes or takes nothing."""
    async with asyncio.TaskGroup() as group:
        copying = group.create_task(_copy(writer, pieces))
        gone = group.create_task(_until_closed(reader))
        await asyncio.wait({copying, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not copying.done():
            copying.cancel()


async def _copy(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        writer.write(piece)
        async with asyncio.timeout(STALLED):
            await writer.drain()
    writer.close()
    async with asyncio.timeout(STALLED):
        await writer.wait_closed()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(MOST_FRAME):
        pass
