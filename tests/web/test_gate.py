"""Connections that say nothing, say it slowly, or are too many: raw sockets against a served host."""

import asyncio
import resource
import socket

import pytest

from kohakuriver.testing.hosts import served
from kohakuriver.web.gate import MOST_PER_ADDRESS, Bounds

QUICK = Bounds(header_seconds=0.4, idle_seconds=0.5)
GOOD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def connected(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def end_of(reader):
    """All that comes until the host closes; a reset is an end too."""
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:
        return b""


async def asked(url, data=GOOD):
    reader, writer = await connected(url)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    except (ConnectionResetError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: local", b"GET"])
async def test_headers_that_do_not_arrive_in_time_end_the_connection(host, said):
    async with served(host, QUICK) as url:
        reader, writer = await connected(url)
        writer.write(said)
        assert await end_of(reader) == b""
        writer.close()
        assert b" 200 " in await asked(url)


async def test_headers_that_drip_are_not_waited_for_and_others_are_served_meanwhile(host):
    async with served(host, QUICK) as url:
        slow = [await connected(url) for _ in range(50)]
        for _, writer in slow:
            writer.write(b"GET /livez HTTP/1.1\r\nX-A: ")
        assert b" 200 " in await asked(url)

        async def drip(writer):
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            dripping = [group.create_task(drip(writer)) for _, writer in slow]
            told = await asyncio.gather(*(end_of(reader) for reader, _ in slow))
            for task in dripping:
                task.cancel()
        assert set(told) == {b""}
        for _, writer in slow:
            writer.close()


async def test_a_second_request_that_drips_is_bound_by_the_idle_time(host):
    async with served(host, QUICK) as url:
        reader, writer = await connected(url)
        writer.write(GOOD + b"GET /livez HTTP/1.1\r\nHos")
        told = await end_of(reader)
        assert told.count(b"HTTP/1.1 200") == 1
        writer.close()


async def test_an_answer_that_takes_longer_than_headers_may_is_given(host):
    """The timer is for the request's way in alone."""
    async with served(host, QUICK) as url:
        reader, writer = await connected(url)
        body = b"{" + b" " * 20
        head = f"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        for byte in body:
            writer.write(bytes([byte]))
            await asyncio.sleep(QUICK.header_seconds / 15)
        assert b" 400 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.close()


async def test_one_address_holds_so_many_connections_and_no_more(host):
    async with served(host, Bounds(most_per_address=5, count_loopback=True)) as url:
        held = [await connected(url) for _ in range(5)]
        for _, writer in held:
            writer.write(GOOD)
        for reader, _ in held:
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert await asked(url) == b""
        held.pop()[1].close()
        async with asyncio.timeout(60):
            while not await asked(url):
                await asyncio.sleep(0.01)
        for _, writer in held:
            writer.close()


async def test_this_machine_is_not_counted(host):
    async with served(host, Bounds(most_per_address=1)) as url:
        held = [await connected(url) for _ in range(5)]
        assert b" 200 " in await asked(url)
        for _, writer in held:
            writer.close()


async def test_a_connection_reset_in_its_headers_is_forgotten(host):
    async with served(host, Bounds(most_per_address=2, count_loopback=True)) as url:
        for _ in range(10):
            _, writer = await connected(url)
            writer.write(b"GET / HT")
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        async with asyncio.timeout(60):
            while not await asked(url):
                await asyncio.sleep(0.01)


def test_no_address_may_take_all_the_files_of_the_process():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    bounds = Bounds.of_this_process()
    assert bounds.most_per_address <= MOST_PER_ADDRESS
    assert soft == resource.RLIM_INFINITY or bounds.most_per_address <= max(16, soft // 4)
