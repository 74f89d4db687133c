"""Tickets: good once, for one node, for ten seconds; and what becomes of streams when links and nodes go."""

import asyncio

import pytest

from kohakuriver.errors import Gone, NotFound, TooMany, Unreachable
from kohakuriver.testing.runners import Bytes, add_node, answer
from kohakuriver.wire import link


def opened(host, node, kind="output", **arguments):
    """Opens a stream in a task of its own and reads it to its end."""

    async def read():
        async with host.streams.open(node.member.id, kind, "1.1", **arguments) as connection:
            data = b""
            while more := await connection.read(100):
                data += more
            return data

    return asyncio.create_task(read())


async def test_a_stream_is_asked_for_and_joined_with_who_waits(host, node):
    reading = opened(host, node, stream="stdout", offset="0")
    connection = Bytes(b"hello")
    dial, serving = await answer(node, connection)
    assert (dial.kind, dial.attempt, dial.arguments) == ("output", "1.1", {"stream": "stdout", "offset": "0"})
    assert await reading == b"hello"
    await serving
    assert connection.closed.is_set()
    assert host.streams._tickets == {}
    assert not any(host.streams._open.values())


async def test_a_ticket_is_good_once_and_for_its_own_node(host, node):
    other = await add_node(host, "other")
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    with pytest.raises(NotFound):
        host.streams.take(dial.ticket, other.member.id)
    with pytest.raises(NotFound):
        host.streams.take("guessed", node.member.id)
    ticket = host.streams.take(dial.ticket, node.member.id)
    with pytest.raises(NotFound):
        host.streams.take(dial.ticket, node.member.id)
    serving = asyncio.create_task(host.streams.serve(ticket, Bytes(b"x")))
    assert await reading == b"x"
    await serving


async def test_a_ticket_runs_out(host, node, monkeypatch):
    monkeypatch.setattr(link, "TICKET_SECONDS", 0.01)
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    with pytest.raises(Unreachable, match="in time"):
        await reading
    with pytest.raises(NotFound):
        host.streams.take(dial.ticket, node.member.id)


async def test_a_connection_that_comes_after_all_gave_up_is_closed(host, node, monkeypatch):
    monkeypatch.setattr(link, "TICKET_SECONDS", 1.0)
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    ticket = host.streams.take(dial.ticket, node.member.id)
    with pytest.raises(Unreachable):
        await reading
    connection = Bytes(b"late")
    await host.streams.serve(ticket, connection)
    assert connection.closed.is_set()


async def test_what_failed_already_is_no_longer_to_be_had(host, node):
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    host.streams.refused(dial.ticket, node.member.id, "no such attempt")
    with pytest.raises(Gone):
        host.streams.take(dial.ticket, node.member.id)
    with pytest.raises(Unreachable, match="no such attempt"):
        await reading


async def test_a_refusal_of_the_node_is_told_and_another_nodes_is_not_heard(host, node):
    other = await add_node(host, "other")
    await other.connect()
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    other.pipe.feed(link.DialFailed(ticket=dial.ticket, reason="lie"))
    other.pipe.feed(link.DialFailed(ticket="unknown", reason="lie"))
    await other.tell("unknown", "1.1")
    assert not reading.done()
    node.pipe.feed(link.DialFailed(ticket=dial.ticket, reason="it is not held here" + "x" * 5000))
    with pytest.raises(Unreachable, match="it is not held here"):
        await reading


async def test_without_a_link_nothing_is_waited_for(host, node):
    await node.drop()
    with pytest.raises(Unreachable, match="not connected"):
        await opened(host, node)


async def test_a_lost_link_fails_dials_that_wait_and_leaves_streams_that_are_open(host, node):
    open_ = opened(host, node)
    connection = Bytes(b"first ", hangs=True)
    await answer(node, connection)
    waiting = opened(host, node)
    await node.pipe.heard(link.Dial, 2)
    await node.drop()
    with pytest.raises(Unreachable, match="lost"):
        await waiting
    connection.feed(b"second")
    connection.close()
    assert await open_ == b"first second"


async def test_a_new_session_fails_the_dials_of_the_old(host, node):
    waiting = opened(host, node)
    await node.pipe.heard(link.Dial)
    await node.connect()
    with pytest.raises(Unreachable, match="lost"):
        await waiting


@pytest.mark.parametrize("stage", ["asked", "taken", "open"])
async def test_revoking_a_node_ends_its_streams_at_every_stage(host, node, stage):
    reading = opened(host, node)
    dial = await node.pipe.heard(link.Dial)
    connection, ticket = Bytes(b"", hangs=True), None
    if stage != "asked":
        ticket = host.streams.take(dial.ticket, node.member.id)
    if stage == "open":
        serving = asyncio.create_task(host.streams.serve(ticket, connection))
        await asyncio.sleep(0)
    host.streams.revoke(node.member.id)
    if stage == "open":
        assert await reading == b""
        await serving
        assert connection.closed.is_set()
        return
    with pytest.raises(Unreachable):
        await reading
    if stage == "taken":
        await host.streams.serve(ticket, connection)
        assert connection.closed.is_set()


async def test_a_node_is_asked_for_so_many_streams_at_once_and_no_more(host, node):
    waiting = [opened(host, node) for _ in range(64)]
    await node.pipe.heard(link.Dial, 64)
    with pytest.raises(TooMany):
        await opened(host, node)
    host.streams.link_lost(node.member.id)
    assert {type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)} == {Unreachable}


async def test_who_gives_up_waiting_leaves_nothing_behind(host, node):
    waiting = [opened(host, node) for _ in range(30)]
    await node.pipe.heard(link.Dial, 30)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert host.streams._tickets == {}
    assert not any(host.streams._open.values())
