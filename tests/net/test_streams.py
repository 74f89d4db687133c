"""Both ends of a raw stream notice that the other one vanished without a word."""

import asyncio
import socket

import pytest

from kohakuriver.net.streams import client_tls, open_stream
from kohakuriver.web.sockets.stream import RawConnection

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: kohakuriver-stream\r\n\r\n"


def longest_silence(sock):
    """Seconds after which the kernel gives a silent end up; None: never."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return None
    idle, every, probes = (
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    return idle + every * probes


class _Taken(asyncio.Protocol):
    """The host's end: answers the upgrade, then is taken over."""

    def __init__(self, taken):
        self.taken = taken

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(UPGRADED)
        self.taken.set_result(RawConnection(self.transport, asyncio.Protocol()))


@pytest.mark.parametrize("end", ["runner", "host"])
async def test_an_end_that_vanished_is_given_up_within_a_minute(end):
    loop = asyncio.get_running_loop()
    taken = loop.create_future()
    server = await loop.create_server(lambda: _Taken(taken), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await open_stream(f"http://127.0.0.1:{port}/stream/x", credential="secret")
    connection = await taken
    sock = (writer if end == "runner" else connection._writer).get_extra_info("socket")
    assert 0 < (longest_silence(sock) or 0) <= 60
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.transport.abort()
    connection.close()
    server.close()


def test_the_authorities_of_the_machine_are_read_for_a_host_without_a_pin_and_then_once():
    assert client_tls("ab" * 32).cert_store_stats()["x509_ca"] == 0
    assert client_tls(None) is client_tls(None)
