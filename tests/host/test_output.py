"""A task's output wherever it lies: in the store, in a blob, at its node; and archives that do not keep to the rules."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from kohakuriver.errors import Gone, Invalid, NotFound, Unreachable
from kohakuriver.host.output import read_output
from kohakuriver.store.models import EventRow, OutputRow
from kohakuriver.store.write import delete
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import Bytes, add_node, answer
from kohakuriver.wire import codec, link

from .kit import exited, placed, running, submit

OUT = bytes(range(256)) * 8  # 2,048 bytes, none like its neighbour


def frame(offset, data=b""):
    return offset.to_bytes(8, "big") + len(data).to_bytes(4, "big") + data


def sealed(data, head, tail, size=None, **more):
    size = len(data) if size is None else size
    return link.Sealed(size=size, head=head, tail=tail, data=data[:head] + data[len(data) - tail :], **more)


async def read(host, actor, task, stream="stdout", **fields):
    """Offset, bytes that were dropped before it, and the bytes."""
    reading = await read_output(host, actor, str(task), stream, **fields)
    data = b"".join([chunk async for chunk in reading.chunks])
    return reading.offset, reading.dropped, data


async def ended(host, ann, node, stdout, stderr=None):
    task = await running(host, ann, node)
    await node.tell("exited", task.attempt, **exited(0, stdout=stdout, stderr=stderr or link.Sealed()))
    return task.id


async def inline(host, ann, node, stdout):
    return await ended(host, ann, node, stdout)


async def archived(host, ann, node, stdout):
    """The same output, fetched by an archive stream."""
    bare = replace_data(stdout)
    task = await ended(host, ann, node, bare)
    header = codec.encode({"stdout": bare, "stderr": link.Sealed()}) + b"\n"
    await answer(node, Bytes(header + stdout.data), count=len(node.pipe.of(link.Dial)) + 1)
    await node.pipe.until(lambda: any(f"{task}.1" in forget.attempts for forget in node.pipe.of(link.Forget)))
    return task


def replace_data(stdout):
    return link.Sealed(size=stdout.size, head=stdout.head, tail=stdout.tail, at_least=stdout.at_least)


@pytest.mark.parametrize("at_least", [False, True])
@pytest.mark.parametrize("kept", [inline, archived])
async def test_that_there_may_have_been_more_is_said(host, ann, node, kept, at_least):
    task = await kept(host, ann, node, sealed(OUT, len(OUT), 0, at_least=at_least))
    reading = await read_output(host, ann, str(task), "stdout")
    await reading.close()
    assert reading.at_least is at_least


@pytest.mark.parametrize("kept", [inline, archived])
@pytest.mark.parametrize(
    ("fields", "offset", "dropped", "data"),
    [
        ({}, 0, 0, OUT[:500] + OUT[1548:]),
        ({"offset": 100}, 100, 0, OUT[100:500] + OUT[1548:]),
        ({"offset": 100, "limit": 50}, 100, 0, OUT[100:150]),
        ({"offset": 499, "limit": 2}, 499, 0, OUT[499:500] + OUT[1548:1549]),
        ({"offset": 500}, 1548, 1048, OUT[1548:]),
        ({"offset": 1000, "limit": 3}, 1548, 548, OUT[1548:1551]),
        ({"offset": 2047}, 2047, 0, OUT[2047:]),
        ({"offset": 2048}, 2048, 0, b""),
        ({"offset": 10**15}, 10**15, 0, b""),
        ({"tail": 10}, 2038, 0, OUT[-10:]),
        ({"tail": 10, "offset": 5}, 2038, 0, OUT[-10:]),
        ({"tail": 0}, 2048, 0, b""),
        ({"tail": 10**15}, 0, 0, OUT[:500] + OUT[1548:]),
        ({"limit": 0}, 0, 0, b""),
        ({"follow": True}, 0, 0, OUT[:500] + OUT[1548:]),
        ({"follow": True, "tail": 5}, 2043, 0, OUT[-5:]),
    ],
)
async def test_kept_output_is_read_by_the_offsets_that_the_task_wrote_at(
    host, ann, node, kept, fields, offset, dropped, data
):
    task = await kept(host, ann, node, sealed(OUT, 500, 500))
    assert await read(host, ann, task, **fields) == (offset, dropped, data)


async def test_a_stream_without_a_byte_is_archived_too(host, ann, node):
    task = await ended(host, ann, node, sealed(b"", 0, 0))
    assert await read(host, ann, task) == (0, 0, b"")
    assert await host.store.reader.of(OutputRow).all().count() == 2


async def test_stdout_and_stderr_are_kept_apart(host, ann, node):
    task = await ended(host, ann, node, sealed(b"out\0\xff", 5, 0), sealed(b"err", 3, 0))
    assert (await read(host, ann, task))[2] == b"out\0\xff"
    assert (await read(host, ann, task, "stderr"))[2] == b"err"
    with pytest.raises(NotFound):
        await read(host, ann, task, "stdin")


@pytest.mark.parametrize("fields", [{"offset": -1}, {"tail": -1}, {"limit": -1}])
async def test_numbers_below_zero_are_refused(host, ann, node, fields):
    task = await ended(host, ann, node, sealed(b"out", 3, 0))
    with pytest.raises(Invalid):
        await read(host, ann, task, **fields)


@pytest.mark.parametrize("attempt", [-1, 2, 10**9])
async def test_an_attempt_that_there_is_not_is_told_so(host, ann, node, attempt):
    task = await ended(host, ann, node, sealed(b"out", 3, 0))
    with pytest.raises(NotFound, match="1 attempts"):
        await read(host, ann, task, attempt=attempt)


async def test_what_has_not_started_has_written_nothing(host, ann, node):
    (task,) = await submit(host, ann)
    assert await read(host, ann, task) == (0, 0, b"")
    assert await read(host, ann, task, tail=10) == (0, 0, b"")


async def test_a_running_tasks_output_comes_from_its_node_with_gaps_counted(host, ann, node):
    task = await running(host, ann, node)
    reading = asyncio.create_task(read(host, ann, task.id, offset=10, limit=6))
    dial, _ = await answer(node, Bytes(frame(20, b"abcd") + frame(30, b"efgh") + frame(34)))
    assert dial.arguments == {"stream": "stdout", "offset": "10", "follow": "0"}
    assert await reading == (20, 10, b"abcdef")


async def test_the_tail_of_a_running_task_is_counted_from_what_there_is(host, ann, node):
    task = await running(host, ann, node)
    reading = asyncio.create_task(read(host, ann, task.id, tail=4))
    await answer(node, Bytes(frame(100)))
    dial, _ = await answer(node, Bytes(frame(96, b"tail") + frame(100)), count=2)
    assert dial.arguments["offset"] == "96"
    assert await reading == (96, 0, b"tail")


async def test_a_node_that_is_away_is_told_so_and_not_waited_for(host, ann, node):
    task = await running(host, ann, node)
    await node.drop()
    with pytest.raises(Unreachable):
        await read(host, ann, task.id)


@pytest.mark.parametrize("data", [b"", frame(0, b"abc")[:-1], frame(0)[:5], (5).to_bytes(8, "big") + b"\xff" * 4])
async def test_a_stream_that_ends_in_mid_frame_is_an_error_and_no_end(host, ann, node, data):
    task = await running(host, ann, node)
    reading = asyncio.create_task(read(host, ann, task.id))
    await answer(node, Bytes(data))
    with pytest.raises(Unreachable):
        await reading


@pytest.mark.parametrize(
    ("fields", "frames", "expected"),
    [
        ({}, b"", (0, 0, OUT)),
        ({}, frame(0, OUT[:700]), (0, 0, OUT)),
        ({"tail": 10}, b"", (2038, 0, OUT[-10:])),
    ],
    ids=["before-a-byte", "between-bytes", "at-the-size"],
)
async def test_a_node_that_lets_go_of_output_while_it_is_read_leaves_the_archive(
    host, ann, node, fields, frames, expected
):
    """The archive is committed and the node forgets, between the reader's look at the store and the node's answer."""
    whole = link.Sealed(size=len(OUT), head=len(OUT))
    task = await ended(host, ann, node, whole)
    await node.pipe.heard(link.Dial)
    reading = asyncio.create_task(read(host, ann, task, **fields))
    await node.pipe.heard(link.Dial, 2)
    header = codec.encode({"stdout": whole, "stderr": link.Sealed()}) + b"\n"
    await answer(node, Bytes(header + OUT))
    await node.pipe.heard(link.Forget)
    await answer(node, Bytes(frames), count=2)
    assert await reading == expected


async def test_following_goes_on_over_a_broken_stream_at_the_byte_where_it_broke(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 0.01)
    task = await running(host, ann, node)
    reading = asyncio.create_task(read(host, ann, task.id, follow=True))
    await answer(node, Bytes(frame(0, b"one ") + frame(4, b"tw")[:-1]))
    dial, _ = await answer(node, Bytes(frame(4, b"two "), breaks=False), count=2)
    assert dial.arguments == {"stream": "stdout", "offset": "4", "follow": "1"}
    await node.drop()
    await node.connect(held=[link.Held(attempt=task.attempt, phase="running")])
    dial, _ = await answer(node, Bytes(frame(8, b"three") + frame(13)))
    assert dial.arguments["offset"] == "8"
    assert await reading == (0, 0, b"one two three")


async def test_following_begins_before_the_start_and_ends_with_the_archive(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 30)
    (task,) = await submit(host, ann)
    reading = asyncio.create_task(read(host, ann, task, follow=True))
    await asyncio.sleep(0)
    await host.scheduler.tick()
    await node.tell("accepted", f"{task}.1")
    done = [
        node.report("started", f"{task}.1"),
        node.report("exited", f"{task}.1", **exited(0, stdout=sealed(b"x", 1, 0))),
    ]
    await node.send(*done)
    assert await reading == (0, 0, b"x")


async def test_following_stays_with_the_task_when_its_first_attempt_was_refused(host, ann, node, clock, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 0.01)
    task = await placed(host, ann)
    reading = asyncio.create_task(read(host, ann, task.id, follow=True))
    await node.tell("refused_for_now", task.attempt)
    clock.advance(2)
    node.pipe.feed(link.Heartbeat())
    await host.scheduler.tick()
    second = f"{task.id}.2"
    await node.tell("accepted", second)
    await node.tell("started", second)
    dial, _ = await answer(node, Bytes(frame(0, b"second") + frame(6)))
    assert dial.attempt == second
    assert await reading == (0, 0, b"second")
    # the refused one wrote nothing
    assert await read(host, ann, task.id, attempt=1) == (0, 0, b"")
    assert await read(host, ann, task.id, attempt=1, follow=True) == (0, 0, b"")


async def test_followers_ask_again_when_their_own_task_changes_and_not_with_everybody_elses(
    host, ann, node, monkeypatch
):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 30)
    (task,) = await submit(host, ann, cores=4)
    looks = []
    find = host.ledger.find

    async def counted(number):
        looks.append(number)
        return await find(number)

    monkeypatch.setattr(host.ledger, "find", counted)
    reading = asyncio.create_task(read(host, ann, task, follow=True))
    while not looks:
        await asyncio.sleep(0)
    for number in range(200):
        host.changes.publish("task", number)
        await asyncio.sleep(0)
    assert len(looks) == 1
    host.changes.close()
    assert await reading == (0, 0, b"")


async def test_logs_of_others_are_read_by_operators_alone_and_that_is_written_down(host, ann, boss, node):
    bob = await add_account(host, "bob")
    task = await ended(host, ann, node, sealed(b"secret", 6, 0))
    with pytest.raises(NotFound):
        await read(host, bob, task)
    assert (await read(host, boss, task))[2] == b"secret"
    rows = await host.store.reader.of(EventRow).filter(what="output_read").values("actor", "task", "user")
    assert rows == [{"actor": "boss", "task": task, "user": ann.id}]
    await read(host, ann, task)
    assert await host.store.reader.of(EventRow).filter(what="output_read").count() == 1


# Archives


async def test_output_that_cannot_ride_along_is_fetched_and_then_the_node_may_forget(host, ann, node):
    data = b"x" * 700_000
    task = await archived(host, ann, node, link.Sealed(size=700_000, head=700_000, data=data))
    await node.drop()
    assert await read(host, ann, task) == (0, 0, data)
    row = (await host.store.reader.of(OutputRow).filter(attempt_id=f"{task}.1", stream="stdout").values())[0]
    assert row["data"] is None
    path = host.settings.data_dir / "output" / row["path"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [part for part in path.parent.iterdir() if part.suffix == ".part"] == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no header\n",
        b"{}\n",
        b'{"stdout":{},"stderr":{}}',
        b'{"stdout":{"size":10,"head":10},"stderr":{}}\nshort',
        b'{"stdout":{"size":5,"head":10},"stderr":{}}\n0123456789',
        b'{"stdout":{"size":-1,"head":-1},"stderr":{}}\n',
        b'{"stdout":{"size":4611686018427387904,"head":4611686018427387904},"stderr":{}}\n',
        b'{"stdout":{"size":9223372036854775808},"stderr":{}}\n',
        b"x" * 300_000,
    ],
)
async def test_an_archive_that_is_short_or_lies_is_thrown_away_and_asked_for_again(host, ann, node, monkeypatch, data):
    monkeypatch.setattr("kohakuriver.host.archive.AGAIN", 0.01)
    big = link.Sealed(size=10, head=10)
    task = await ended(host, ann, node, big)
    await answer(node, Bytes(data))
    header = codec.encode({"stdout": big, "stderr": link.Sealed()}) + b"\n"
    await answer(node, Bytes(header + b"0123456789"), count=2)
    await node.pipe.heard(link.Forget)
    assert await read(host, ann, task) == (0, 0, b"0123456789")


async def test_an_archive_that_was_cut_off_is_asked_for_by_the_next_session(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.archive.AGAIN", 0.01)
    big = link.Sealed(size=10, head=10)
    task = await ended(host, ann, node, big)
    await node.pipe.heard(link.Dial)
    await node.drop()
    await node.connect(held=[link.Held(attempt=f"{task}.1", phase="exited")])
    header = codec.encode({"stdout": big, "stderr": link.Sealed()}) + b"\n"
    await answer(node, Bytes(header + b"0123456789"))
    await node.pipe.heard(link.Forget)
    assert await read(host, ann, task) == (0, 0, b"0123456789")


async def test_a_node_is_asked_for_two_archives_at_once_and_no_node_holds_up_another(host, ann, node):
    other = await add_node(host, "other")
    await other.connect()
    big = link.Sealed(size=10, head=10)
    for peer in (node, other):
        for _ in range(4):
            task = await placed(host, ann, targets=[peer.member.name])
            await peer.send(peer.report("accepted", task.attempt), peer.report("started", task.attempt))
            await peer.tell("exited", task.attempt, **exited(0, stdout=big))
    await node.pipe.heard(link.Dial, 2)
    await other.pipe.heard(link.Dial, 2)
    await node.tell("unknown", "1.1")
    assert len(node.pipe.of(link.Dial)) == len(other.pipe.of(link.Dial)) == 2


async def test_output_beyond_its_days_is_said_to_be_gone(host, ann, node, clock):
    task = await ended(host, ann, node, sealed(b"old", 3, 0))
    clock.advance(timedelta(days=31).total_seconds())
    await host.store.writer.write([delete(OutputRow, where={})])
    with pytest.raises(Gone, match="30 days"):
        await read(host, ann, task)
    host.settings = replace(host.settings, output_days=0)
    await node.drop()
    with pytest.raises(Unreachable):
        await read(host, ann, task)
