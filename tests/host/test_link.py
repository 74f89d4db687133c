"""One session of a node, as contrib/notes/wire.md §4 orders it, and what a runner that keeps to nothing can do."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.nodes import NodeStatus
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import StorageFull
from kohakuriver.host import nodes
from kohakuriver.host.session import MOST_UNREADABLE
from kohakuriver.store.models import NodeRow
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import agree, exited, placed, running, stored, submit

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def away(host):
    """A node that is enrolled and not connected."""
    return await add_node(host)


async def closed(pipe):
    await pipe.until(lambda: pipe.closed is not None)
    return pipe.closed


async def test_the_opening_is_hello_welcome_inventory_wanted_and_then_the_node_is_online(host, away, clock):
    assert away.member.status(clock.monotonic()) is NodeStatus.OFFLINE
    pipe = await away.connect(version="9.9", labels={"room": "b12"})
    assert [type(message) for message in pipe.said] == [link.Welcome, link.WantedSet]
    welcome = pipe.of(link.Welcome)[0]
    assert (welcome.cluster, welcome.node, welcome.acknowledged) == (host.store.cluster, "node1", 0)
    assert (welcome.session, welcome.incarnation) == ("node1-1-1", host.store.incarnation)
    assert away.member.status(clock.monotonic()) is NodeStatus.ONLINE
    row = (await host.store.reader.of(NodeRow).filter(id=away.member.id).values())[0]
    assert (row["version"], row["labels"], row["epoch"]) == ("9.9", '{"room":"b12"}', 1)


@pytest.mark.parametrize(
    "first", [link.Inventory(), link.Heartbeat(), link.Report(seq=1, attempt="1.1", what="started")]
)
async def test_anything_before_hello_closes(away, first):
    pipe = away.begin()
    pipe.feed(first)
    assert await closed(pipe) == (1008, "the first message is hello")


async def test_anything_but_the_inventory_after_hello_closes(away):
    pipe = away.begin()
    pipe.feed(away.hello())
    await pipe.heard(link.Welcome)
    pipe.feed(link.Heartbeat())
    assert (await closed(pipe))[0] == 1008
    assert not away.member.connected


@pytest.mark.parametrize("message", [link.Hello(epoch=1, boot="b", session="s"), link.Inventory()])
async def test_a_second_hello_or_inventory_closes(node, message):
    node.pipe.feed(message)
    assert (await closed(node.pipe))[0] == 1008


async def test_a_report_before_the_session_is_live_is_no_report(host, ann, node):
    task = await placed(host, ann)
    await node.drop()
    pipe = node.begin()
    pipe.feed(node.hello())
    pipe.feed(node.report("accepted", task.attempt))
    await closed(pipe)
    assert host.board.get(task.id).status is Status.ASSIGNED


@pytest.mark.parametrize(
    ("fields", "code", "final"),
    [
        ({"major": 2}, "version", False),
        ({"cluster": "another"}, "cluster", True),
        ({"incarnation": 99}, "incarnation", True),
    ],
)
async def test_a_session_that_cannot_be_is_refused_with_a_word_and_closed(away, fields, code, final):
    pipe = away.begin()
    pipe.feed(away.hello(**fields))
    refused = await pipe.heard(link.Refused)
    assert (refused.code, refused.final) == (code, final)
    assert (await closed(pipe))[0] == 1008
    assert away.member.session is None


async def test_a_revoked_node_is_cut_off_and_refused_for_good(host, boss, node):
    await nodes.revoke(host, replace(boss, role=Role.ADMIN), "node1", "stolen")
    refused = await node.pipe.heard(link.Refused)
    assert (refused.code, refused.final) == ("revoked", True)
    assert (await closed(node.pipe))[0] == 1008
    pipe = node.begin()
    pipe.feed(node.hello())
    assert (await pipe.heard(link.Refused)).code == "revoked"


async def test_a_newer_session_supersedes_and_the_old_ones_end_touches_nothing_of_it(host, ann, node):
    task = await placed(host, ann)
    old, serving = node.pipe, node.serving
    new = await node.connect()
    assert (await old.heard(link.Refused)).code == "superseded"
    assert await closed(old) == (4000, "superseded")
    await serving
    assert node.member.session.id == "node1-1-2"
    assert node.member.connected
    await new.heard(link.Assign)
    await node.tell("accepted", task.attempt)
    assert host.board.get(task.id).status is Status.STARTING


async def test_what_a_superseded_session_still_says_counts_for_nothing(host, ann, node):
    task = await placed(host, ann)
    old = node.pipe
    old.reads.clear()
    await node.connect()
    old.feed(link.Refresh(cells=[]))
    old.feed(node.report("accepted", task.attempt))
    old.reads.set()
    await closed(old)
    assert node.member.inventory.cpus == (0, 1, 2, 3)
    assert host.board.get(task.id).status is Status.ASSIGNED


async def test_reports_on_their_way_to_the_disk_survive_a_new_session(host, ann, node, monkeypatch):
    task = await placed(host, ann)
    write, held = host.store.writer.write, asyncio.Event()
    begun = asyncio.Event()

    async def slow(statements):
        if "reports" in statements[-1].what and not begun.is_set():
            begun.set()
            await held.wait()
        return await write(statements)

    monkeypatch.setattr(host.store.writer, "write", slow)
    node.pipe.feed(node.report("unknown", "7.1"))
    await begun.wait()
    old = node.serving
    pipe = node.begin()
    pipe.feed(node.hello())
    await pipe.heard(link.Welcome)
    held.set()
    await old
    pipe.feed(link.Inventory())
    await pipe.heard(link.WantedSet)
    # the old session's commit counted; the numbers did not go back
    again = link.Report(seq=1, attempt="7.1", what="unknown")
    await node.send(again, node.report("accepted", task.attempt))
    assert host.board.get(task.id).status is Status.STARTING
    row = (await host.store.reader.of(NodeRow).filter(id=node.member.id).values("acknowledged"))[0]
    assert row["acknowledged"] == node.member.acknowledged == 2


async def test_reports_of_an_older_life_never_count_in_a_newer_one(host, ann, node, monkeypatch):
    task = await placed(host, ann)
    write, begun, held = host.store.writer.write, asyncio.Event(), asyncio.Event()

    async def slow(statements):
        if "reports" in statements[-1].what and not begun.is_set():
            begun.set()
            await held.wait()
        return await write(statements)

    monkeypatch.setattr(host.store.writer, "write", slow)
    node.pipe.feed(link.Report(seq=500, attempt="7.1", what="unknown"))
    await begun.wait()
    old = node.serving
    node.epoch, node.seq = 2, 0
    pipe = node.begin()
    pipe.feed(node.hello())
    await pipe.heard(link.Welcome)
    held.set()
    await old
    pipe.feed(link.Inventory())
    await pipe.heard(link.WantedSet)
    assert node.member.acknowledged == 0
    await node.tell("accepted", task.attempt)
    assert host.board.get(task.id).status is Status.STARTING


async def test_a_hundred_unreadable_messages_close_and_each_before_is_answered(node):
    for number in range(MOST_UNREADABLE):
        node.pipe.feed(b"{" if number % 2 else b'{"t":"news","x":1}')
    assert await closed(node.pipe) == (1008, "too many messages that cannot be read")
    answers = node.pipe.of(link.Unsupported)
    assert len(answers) == MOST_UNREADABLE - 1
    assert answers[0].message.startswith("news")


async def test_an_unknown_message_is_answered_and_the_session_goes_on(host, ann, node):
    task = await placed(host, ann)
    node.pipe.feed(b'{"t":"news","x":1}')
    node.pipe.feed(b'{"t":"heartbeat","cpu":"much","later":[]}')
    node.pipe.feed(b'{"t":"heartbeat","cpu":0.5,"not yet known":1}')
    node.pipe.feed(link.Unsupported(message="x" * 100_000))
    await node.tell("accepted", task.attempt)
    assert [answer.message[:9] for answer in node.pipe.of(link.Unsupported)] == ["news: Inv", "heartbeat"]
    assert node.member.beat.cpu == 0.5


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"null", b"1e400", b'{"t":"report","seq":"1"}', b"[" * 10_000, b'"' + b"x" * 300_000 + b'"',
     b'{"t":"report","seq":1,"attempt":"\\ud800","what":"started"}', b'{"t":["x"]}'],
)  # fmt: skip
async def test_garbage_is_answered_in_words_and_stops_nothing(node, data):
    node.pipe.feed(data)
    answer = await node.pipe.heard(link.Unsupported)
    assert 0 < len(answer.message) <= 200
    await node.tell("unknown", "1.1")


async def test_more_reports_than_may_wait_close(host, node, monkeypatch):
    async def never(statements):
        await asyncio.Event().wait()

    monkeypatch.setattr(host.store.writer, "write", never)
    for _ in range(1200):
        node.pipe.feed(node.report("unknown", "1.1"))
    code, reason = await closed(node.pipe)
    assert (code, reason) == (1008, "more than 512 reports without an acknowledgement")


async def test_an_endless_inventory_closes(away, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.link.MOST_HELD", 1000)
    pipe = away.begin()
    pipe.feed(away.hello())
    await pipe.heard(link.Welcome)
    for page in range(20):
        held = [link.Held(attempt=f"{page * 100 + n}.1", phase="closed") for n in range(100)]
        pipe.feed(link.Inventory(held=held, last=False))
    assert (await closed(pipe))[0] == 1008


@pytest.mark.parametrize(("limit", "said"), [("HELLO_SECONDS", 0), ("SYNC_SECONDS", 1)])
async def test_who_says_nothing_is_hung_up_on(away, monkeypatch, limit, said):
    monkeypatch.setattr(f"kohakuriver.host.link.{limit}", 0.01)
    pipe = away.begin()
    if said:
        pipe.feed(away.hello())
    code, reason = await closed(pipe)
    assert (code, reason) == (1008, "nothing came within 0.01 s")


DEVICE = link.WireDevice(id="0000:01:00.0")


@pytest.mark.parametrize(
    "cells",
    [
        [link.WireCell(id=0, cpus=[0]), link.WireCell(id=0, cpus=[1])],
        [link.WireCell(id=0, cpus=[0, 1]), link.WireCell(id=1, cpus=[1])],
        [link.WireCell(cpus=[0, 1, 2], siblings=[0])],
        [link.WireCell(cpus=[0], devices=[DEVICE, DEVICE])],
        [link.WireCell(cpus=[0], devices=[link.WireDevice(id="")])],
        [link.WireCell(cpus=[0], devices=[link.WireDevice(id="x" * 97)])],
        [link.WireCell(cpus=[0], devices=[link.WireDevice(id="a\0b")])],
        [link.WireCell(id=n, cpus=[n]) for n in range(257)],
        [link.WireCell(id=n, memory=2**62) for n in range(3)],
    ],
)
async def test_a_machine_that_contradicts_itself_is_not_taken(host, ann, away, cells):
    pipe = away.begin()
    pipe.feed(away.hello(cells=cells))
    assert (await closed(pipe))[0] == 1008
    await away.connect()
    away.pipe.feed(link.Refresh(cells=cells))
    assert (await closed(away.pipe))[0] == 1008
    await submit(host, ann, pin=True)
    await host.scheduler.tick()


async def test_a_refresh_changes_what_the_node_offers(host, ann, node):
    (task,) = await submit(host, ann, cores=4)
    cells = [link.WireCell(cpus=[0, 1], memory=2**30)]
    node.pipe.feed(link.Refresh(cells=cells, backends=node.backends, pinnable=[1]))
    await node.tell("unknown", "1.1")
    await host.scheduler.tick()
    assert host.board.get(task).status is Status.PENDING
    assert node.member.snapshot(0).pinnable == {1}


async def test_pinnable_cpus_of_hello_are_given_out_whole_and_the_rest_is_shared(host, ann, node):
    await node.drop()
    await node.connect(pinnable=[2, 3])
    pinned = await placed(host, ann, cores=2, pin=True)
    assert host.board.reserved(node.member.id)[pinned.id].cpus == (2, 3)
    shared = await placed(host, ann, cores=2)
    assert shared.status is Status.ASSIGNED
    assert (await placed(host, ann, cores=1)).status is Status.PENDING


async def test_a_lost_link_makes_the_node_suspect_at_once_and_offline_after_thirty_seconds(host, node, clock):
    await node.drop()
    assert node.member.status(clock.monotonic()) is NodeStatus.SUSPECT
    clock.advance(29)
    assert node.member.status(clock.monotonic()) is NodeStatus.SUSPECT
    clock.advance(1)
    assert node.member.status(clock.monotonic()) is NodeStatus.OFFLINE


async def test_a_linked_node_that_beats_late_is_suspect_and_a_beat_brings_it_back(host, node, clock):
    clock.advance(11)
    assert node.member.status(clock.monotonic()) is NodeStatus.SUSPECT
    node.pipe.feed(link.Heartbeat(cpu=0.5))
    await node.tell("unknown", "1.1")
    assert node.member.status(clock.monotonic()) is NodeStatus.ONLINE


async def test_heartbeats_are_kept_for_minutes_and_no_faster_than_they_are_due(host, node, clock):
    for _ in range(200):
        node.pipe.feed(link.Heartbeat(cpu=0.1))
    await node.tell("unknown", "1.1")
    assert len(node.member.history) == 1
    for _ in range(100):
        clock.advance(5)
        node.pipe.feed(link.Heartbeat(cpu=0.1))
        await node.tell("unknown", "1.1")
    assert len(node.member.history) == 60


async def test_a_hello_that_the_store_cannot_take_is_told_to_come_again(host, away, monkeypatch):
    async def full(statements):
        raise StorageFull

    with monkeypatch.context() as patch:
        patch.setattr(host.store.writer, "write", full)
        pipe = away.begin()
        pipe.feed(away.hello())
        assert (await closed(pipe))[0] == 1013
    await away.connect()
    assert away.member.connected


async def test_a_channel_that_breaks_in_mid_sentence_ends_the_session_alone(host, ann, node):
    task = await running(host, ann, node)

    async def broken(data):
        raise ConnectionResetError

    node.pipe.send = broken
    node.pipe.feed(node.report("exited", task.attempt, **exited()))
    await node.serving
    assert not node.member.connected
    # committed all the same, and not twice
    await node.connect()
    assert (await stored(host, task.id)).status is Status.COMPLETED
    assert node.pipe.of(link.Welcome)[0].acknowledged == node.seq
    await agree(host)


async def test_a_runner_that_does_not_read_is_sent_nothing_again_beyond_a_bound(host, ann, node, clock, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.dispatch.MOST_BACKLOG", 20)
    await placed(host, ann)
    node.pipe.reads.clear()
    for _ in range(100):
        clock.advance(6)
        node.pipe.feed(link.Heartbeat())
        host.dispatch.tick()
    assert node.member.session.backlog <= 21
    node.pipe.reads.set()


async def test_only_so_many_sessions_are_opened_at_once(host, away):
    peers = [away] + [await add_node(host, f"n{number}") for number in range(host.settings.handshakes - 1)]
    for peer in peers:
        peer.begin()
    async with asyncio.timeout(60):
        while not host.links.busy:
            await asyncio.sleep(0)
    for peer in peers:
        await peer.drop()
    assert not host.links.busy


async def test_a_host_that_stops_says_so(host, node):
    host.links.close()
    assert await closed(node.pipe) == (1001, "the host stops")
