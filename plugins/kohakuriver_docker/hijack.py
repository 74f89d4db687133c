"""A connection to the daemon that it gives away: after its answer, raw bytes both ways (Engine API, `ExecStart`).

aiohttp's client keeps the connection for itself, so this speaks the little HTTP that it takes.
"""

import asyncio
import contextlib

import msgspec

from kohakuriver_docker.engine import LONG, Engine, EngineError, Unreachable

#: bytes that wait for the reader, twice at most; then the program waits
BUFFER = 128 * 1024
HEAD_END = b"\r\n\r\n"


class Hijacked:
    """One connection. Reads and writes each by one task at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=BUFFER)

    async def read(self, most: int) -> bytes:
        """b"" when the daemon has ended it, or died."""
        try:
            return await self._reader.read(most)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Returns when the daemon has taken most of it; what comes after its end is dropped."""
        if self._writer.is_closing():
            return
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        """May be called twice. What the daemon has not taken yet is dropped: nobody may ever take it."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def hijack(engine: Engine, path: str, body: object) -> Hijacked:
    """Asks with POST and takes the connection over. Raises Unreachable, EngineError."""
    content = msgspec.json.encode(body)
    prefix = await engine.prefix()
    lines = (
        f"POST {prefix}{path} HTTP/1.1",
        "Host: docker",
        "Connection: Upgrade",
        "Upgrade: tcp",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    try:
        async with asyncio.timeout(LONG):
            reader, writer = await asyncio.open_unix_connection(engine.socket, limit=BUFFER)
            try:
                writer.write("\r\n".join(lines).encode() + HEAD_END + content)
                await writer.drain()
                await _must_switch(reader)
            except BaseException:
                writer.close()
                raise
    except TimeoutError:
        raise Unreachable(f"Docker at {engine.socket} did not answer within {LONG:g} s") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unreachable(f"Docker at {engine.socket} cannot be reached: {error}") from None
    return Hijacked(reader, writer)


async def _must_switch(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(HEAD_END)).decode("latin-1")
    status = int(head.split(" ", 2)[1])
    if status in (101, 200):
        return
    text = (await reader.read(4096)).decode(errors="replace")
    with contextlib.suppress(msgspec.DecodeError):
        text = str(msgspec.json.decode(text).get("message", text))
    raise EngineError(status, text.strip()[:1000])
