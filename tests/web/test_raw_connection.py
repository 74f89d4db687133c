"""The taken-over connection of a stream: what it promises when the peer or the HTTP server ends it first."""

import asyncio

import pytest
from aiohttp import web

from kohakuriver.net.streams import open_stream
from kohakuriver.web.sockets.stream import WAITING, RawConnection

#: so much that the reader has paused its transport, and yet little enough for TLS to take it all in
LEFT = 2 * WAITING + WAITING // 2


class Taker:
    """A server whose one route takes the connection over and hands it to the test."""

    def __init__(self) -> None:
        self.taken = asyncio.get_running_loop().create_future()
        self.done = asyncio.Event()

    async def start(self, context):
        app = web.Application()
        app.router.add_get("/stream/x", self._stream)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return site._server.sockets[0].getsockname()[1]

    async def _stream(self, request):
        transport = request.transport
        connection = RawConnection(transport, request.protocol)
        response = web.StreamResponse(status=101, headers={"Upgrade": "kohakuriver-stream", "Connection": "Upgrade"})
        await response.prepare(request)
        self.taken.set_result((connection, transport))
        await self.done.wait()
        connection.close()
        return response


@pytest.fixture
async def taker():
    taker = Taker()
    yield taker
    taker.done.set()
    await taker.runner.cleanup()


@pytest.fixture(params=["plain", "tls"])
async def peers(request, taker, certificate):
    """Our half and its transport, and the runner's half."""
    context, fingerprint = certificate if request.param == "tls" else (None, None)
    port = await taker.start(context)
    scheme = "https" if context else "http"
    halves = await open_stream(f"{scheme}://127.0.0.1:{port}/stream/x", credential="x", fingerprint=fingerprint)
    yield (*await taker.taken, *halves)
    halves[1].transport.abort()


async def full(connection, transport):
    """Until the reader has so much that it has paused."""
    async with asyncio.timeout(30):
        while not connection._reader._paused:
            await asyncio.sleep(0)


async def lost(transport):
    async with asyncio.timeout(30):
        while not transport.is_closing():
            await asyncio.sleep(0.01)


async def read_all(connection):
    data = b""
    async with asyncio.timeout(30):
        while block := await connection.read(65536):
            data += block
    return data


async def test_what_had_come_is_read_after_the_connection_was_lost(peers):
    connection, transport, _, writer = peers
    writer.write(b"x" * LEFT)
    await full(connection, transport)
    await writer.drain()
    transport.abort()
    await lost(transport)
    connection.close()
    data = await read_all(connection)
    assert data
    assert data == b"x" * len(data)


async def test_what_had_come_is_read_after_it_was_closed_twice(peers):
    connection, transport, _, writer = peers
    writer.write(b"x" * LEFT)
    await full(connection, transport)
    connection.close()
    connection.close()
    assert len(await read_all(connection)) >= 2 * WAITING


async def test_a_closed_connection_takes_nothing_more(peers):
    connection, _, _, _ = peers
    connection.close()
    connection.close()
    with pytest.raises(ConnectionError, match="closed"):
        await connection.write(b"x")
