"""The link's WebSocket as the channel that `host.link` reads and writes. Knows pings and frames, no message."""

import asyncio
import logging
import socket

from aiohttp import WSMsgType, web

from kohakuriver.errors import NotReady
from kohakuriver.web.call import Call
from kohakuriver.wire import queries
from kohakuriver.wire.link import DEAD_SECONDS, MOST_MESSAGE, PING_SECONDS

log = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0


async def link(call: Call[queries.Query, None]) -> web.StreamResponse:
    """One session of the node whose credential came. Raises NotReady while too many sessions are being opened."""
    host = call.host
    member = host.roster.get(call.node or 0)
    assert member is not None
    if host.links.busy:
        raise NotReady("too many nodes are connecting at once; try again in a moment")
    socket_ = web.WebSocketResponse(
        autoping=False, compress=False, max_msg_size=MOST_MESSAGE, timeout=CLOSE_SECONDS, decode_text=False
    )
    await socket_.prepare(call.request)
    _user_timeout(call.request)
    pinging = host.group.create_task(_ping(socket_))
    try:
        await host.links.serve(SocketChannel(socket_), member)
    finally:
        pinging.cancel()
    return socket_


class SocketChannel:
    """A WebSocket as `host.session.Channel`. Any frame counts as life; 15 seconds without one end it."""

    def __init__(self, socket_: web.WebSocketResponse) -> None:
        self._socket = socket_

    async def receive(self) -> bytes | None:
        """The next message; None when the other side is gone, silent or breaks the protocol."""
        while True:
            try:
                async with asyncio.timeout(DEAD_SECONDS):
                    message = await self._socket.receive()
            except TimeoutError:
                await self.close(1001, "silent for too long")
                return None
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                data: bytes = message.data
                return data
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return None

    async def send(self, data: bytes) -> None:
        """Sends one message. Raises ConnectionError when the socket is closed."""
        await self._socket.send_frame(data, WSMsgType.TEXT)

    async def close(self, code: int, reason: str) -> None:
        """Closes with a reason; waits a second at most for the other side's close."""
        await self._socket.close(code=code, message=reason.encode()[:120])


async def _ping(socket_: web.WebSocketResponse) -> None:
    try:
        while not socket_.closed:
            await asyncio.sleep(PING_SECONDS)
            await socket_.ping()
    except ConnectionError:
        # the reader of this socket sees the same end
        return


def _user_timeout(request: web.Request) -> None:
    """tcp(7): bytes that stay unacknowledged for so long end the connection."""
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_SECONDS * 1000))
