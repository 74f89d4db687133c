"""A stream that a runner opens because we asked: an HTTP/1.1 upgrade, after which both directions are raw bytes."""

import asyncio

from aiohttp import web

from kohakuriver.errors import Invalid
from kohakuriver.net.streams import tune
from kohakuriver.web.call import Call
from kohakuriver.wire import queries
from kohakuriver.wire.link import STREAM_PROTOCOL

#: bytes that may wait unread before the runner is slowed down
WAITING = 256 * 1024


async def stream(call: Call[queries.Query, None]) -> web.StreamResponse:
    """Takes the ticket, then the connection; returns when whoever asked for the stream is done with it."""
    request = call.request
    if request.headers.get("Upgrade", "").lower() != STREAM_PROTOCOL:
        raise Invalid(f"this needs `Upgrade: {STREAM_PROTOCOL}`", field="Upgrade")
    ticket = call.host.streams.take(call.part("ticket"), call.node or 0)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the runner is gone")
    connection = RawConnection(transport, request.protocol)
    response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", "Upgrade": STREAM_PROTOCOL})
    try:
        await response.prepare(request)
        await call.host.streams.serve(ticket, connection)
    finally:
        connection.close()
        request.protocol.force_close()
    return response


class RawConnection:
    """A request's connection as `host.streams.Connection`: taken from the HTTP server, which is told of its end."""

    def __init__(self, transport: asyncio.Transport, server: asyncio.BaseProtocol) -> None:
        """Takes the transport over at once; what aiohttp still writes to it goes out as before."""
        self._reader = asyncio.StreamReader(limit=WAITING)
        protocol = _Taken(self._reader, server)
        transport.set_protocol(protocol)
        protocol.connection_made(_WhileOpen(transport))
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, asyncio.get_running_loop())
        tune(transport.get_extra_info("socket"))

    async def read(self, most: int) -> bytes:
        """Some bytes; b"" at the end. What had come before the connection was lost is still read."""
        return await self._reader.read(most)

    async def read_exactly(self, count: int) -> bytes:
        """So many bytes. Raises EOFError when it ends before."""
        return await self._reader.readexactly(count)

    async def read_line(self) -> bytes:
        """Up to and with the next newline. Raises ConnectionError for a line without end."""
        try:
            return await self._reader.readline()
        except ValueError:
            raise ConnectionError("the runner sent a line without end") from None

    async def write(self, data: bytes) -> None:
        """Sends, as fast as the other side reads. Raises ConnectionError once it is closed."""
        if self._writer.is_closing():
            raise ConnectionResetError("the stream is closed")
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Ends both directions. May be called twice."""
        self._writer.close()


class _WhileOpen(asyncio.ReadTransport):
    """A transport's flow control, for as long as there is something to control.

    The HTTP server closes what was lost already, and asyncio's TLS transport lets go of its protocol at a second close:
    a reader that had paused it and reads on would raise AttributeError from there.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__({"sslcontext": transport.get_extra_info("sslcontext")})
        self._transport = transport

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


class _Taken(asyncio.StreamReaderProtocol):
    """Passes the end of the connection on to the HTTP server, which keeps a list of what is open."""

    def __init__(self, reader: asyncio.StreamReader, server: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._server = server

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._server.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._server.resume_writing()
