"""The link and its streams as a runner meets them: real sockets, a runner of a few lines."""

import asyncio

import aiohttp
import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import Unreachable
from kohakuriver.host import enrol, nodes
from kohakuriver.net.streams import open_stream
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import api, codec, link, urls


@pytest.fixture
async def root(host):
    return await add_account(host, "root", Role.ADMIN)


async def joined(host, root, name="node1"):
    made = await enrol.make_token(host, root, api.NewNodeToken(name=name))
    return (await enrol.join(host, api.Join(token=made.token, name=name), "127.0.0.1")).credential


def linked(web, credential, **more):
    headers = {"Authorization": f"Bearer {credential}"}
    return web.http.ws_connect(f"{web.url}{urls.LINK}", headers=headers, compress=0, **more)


async def received(socket):
    message = await asyncio.wait_for(socket.receive(), 60)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return codec.decode(message.data, link.FromHost)


async def greeted(socket, session="s1"):
    await socket.send_bytes(codec.encode(link.Hello(epoch=1, boot="b", session=session)))
    welcome = await received(socket)
    assert isinstance(welcome, link.Welcome)
    await socket.send_str(codec.encode(link.Inventory()).decode())
    while not (message := await received(socket)).complete:
        pass
    assert isinstance(message, link.WantedSet)


async def online(host, name="node1"):
    async with asyncio.timeout(60):
        with host.changes.subscribe() as changes:
            while not host.roster.named(name).connected:
                await changes.next()


async def test_a_runner_is_welcomed_and_its_node_is_online(web, host, root):
    async with linked(web, await joined(host, root)) as socket:
        await greeted(socket)
        await online(host)
        assert (await web.get(f"{urls.NODES}/node1", as_="viewer")).json["status"] == "online"
    async with asyncio.timeout(60):
        with host.changes.subscribe() as changes:
            while host.roster.named("node1").connected:
                await changes.next()


@pytest.mark.parametrize("kind", ["none", "user", "nonsense"])
async def test_only_a_node_s_credential_opens_the_link(web, kind):
    token = {"none": None, "user": web.tokens["admin"], "nonsense": "krn_x"}[kind]
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await linked(web, token) if token else await web.http.ws_connect(f"{web.url}{urls.LINK}")
    assert error.value.status == 401


async def test_a_revoked_node_is_cut_off_and_stays_out(web, host, root):
    credential = await joined(host, root)
    async with linked(web, credential) as socket:
        await greeted(socket)
        await nodes.revoke(host, root, "node1", "stolen")
        assert (await received(socket)).code == "revoked"
        message = await asyncio.wait_for(socket.receive(), 60)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await linked(web, credential)
    assert error.value.status == 403


async def test_a_message_that_is_too_big_ends_the_session(web, host, root):
    async with linked(web, await joined(host, root)) as socket:
        await socket.send_bytes(b" " * (link.MOST_MESSAGE + 1))
        message = await asyncio.wait_for(socket.receive(), 60)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_a_plain_request_is_no_link(web, host, root):
    headers = {"Authorization": f"Bearer {await joined(host, root)}"}
    answer = await web.get(urls.LINK, headers=headers)
    assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (400, "application/problem+json")


async def test_a_ping_is_answered(web, host, root):
    async with linked(web, await joined(host, root), autoping=False) as socket:
        await socket.ping(b"x")
        message = await asyncio.wait_for(socket.receive(), 60)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"x")


@pytest.fixture
async def runner(web, host, root):
    """A live session; answers the next dial with the connection that the test serves."""
    credential = await joined(host, root)
    async with linked(web, credential) as socket:
        await greeted(socket)
        await online(host)

        async def answer_dial(ticket=None, use=None):
            dial = await received(socket)
            assert isinstance(dial, link.Dial)
            url = web.url + urls.fill(urls.STREAM, ticket=ticket or dial.ticket)
            return dial, await open_stream(url, credential=use or credential)

        yield answer_dial


async def test_a_stream_carries_bytes_both_ways_until_it_is_closed(web, host, runner):
    node = host.roster.named("node1").id

    async def ask():
        async with host.streams.open(node, "output", "1.1", stream="stdout") as connection:
            await connection.write(b"question\n")
            head = await connection.read_exactly(4)
            line = await connection.read_line()
            rest = b""
            while block := await connection.read(65536):
                rest += block
            return head, line, rest

    asking = asyncio.ensure_future(ask())
    dial, (reader, writer) = await runner()
    assert (dial.kind, dial.attempt, dial.arguments) == ("output", "1.1", {"stream": "stdout"})
    assert await asyncio.wait_for(reader.readline(), 60) == b"question\n"
    big = bytes(range(256)) * 4096
    writer.write(b"heada line\n" + big)
    await writer.drain()
    writer.close()
    assert await asyncio.wait_for(asking, 60) == (b"head", b"a line\n", big)
    assert host.streams._open.get(node, set()) == set()


async def test_leaving_the_stream_closes_it_for_the_runner(host, runner):
    node = host.roster.named("node1").id

    async def ask():
        async with host.streams.open(node, "output", "1.1"):
            pass

    asking = asyncio.ensure_future(ask())
    _, (reader, writer) = await runner()
    assert await asyncio.wait_for(reader.read(), 60) == b""
    await asking
    writer.close()


async def test_a_ticket_is_for_its_node_and_for_one_use(web, host, root, runner):
    node = host.roster.named("node1").id
    other = await joined(host, root, "node2")

    async def ask():
        async with host.streams.open(node, "output", "1.1") as connection:
            return await connection.read(1)

    asking = asyncio.ensure_future(ask())
    with pytest.raises(Unreachable, match="404"):
        await runner(use=other)
    asking.cancel()
    asking = asyncio.ensure_future(ask())
    dial, (_, writer) = await runner()
    url = web.url + urls.fill(urls.STREAM, ticket=dial.ticket)
    with pytest.raises(Unreachable, match="404"):
        await open_stream(url, credential=other)
    writer.close()
    assert await asyncio.wait_for(asking, 60) == b""


async def test_a_request_without_the_upgrade_does_not_use_the_ticket_up(web, host, root):
    credential = await joined(host, root)
    async with linked(web, credential) as socket:
        await greeted(socket)
        await online(host)

        async def ask():
            async with host.streams.open(host.roster.named("node1").id, "output", "1.1") as connection:
                return await connection.read(1)

        asking = asyncio.ensure_future(ask())
        dial = await received(socket)
        path = urls.fill(urls.STREAM, ticket=dial.ticket)
        answer = await web.get(path, headers={"Authorization": f"Bearer {credential}"})
        assert (answer.status, answer.json["field"]) == (422, "Upgrade")
        _, writer = await open_stream(web.url + path, credential=credential)
        writer.write(b"x")
        assert await asyncio.wait_for(asking, 60) == b"x"
        writer.close()


async def test_the_server_forgets_streams_that_ended(web, host, runner):
    node = host.roster.named("node1").id

    async def ask():
        async with host.streams.open(node, "output", "1.1") as connection:
            return await connection.read(1)

    for _ in range(3):
        asking = asyncio.ensure_future(ask())
        _, (_, writer) = await runner()
        writer.write(b"x")
        assert await asyncio.wait_for(asking, 60) == b"x"
        writer.close()
        await writer.wait_closed()
    assert not host.streams._tickets
