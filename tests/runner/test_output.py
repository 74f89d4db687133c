"""Output: caps, offsets, gaps, full disks, followers; and the streams that carry it."""

import asyncio
import hashlib
import json
import struct

import pytest

from kohakuriver.hooks.values import Chunk
from kohakuriver.runner.output import Live, OutputStore
from kohakuriver.runner.segments import Segments
from kohakuriver.runner.settings import OutputLimits
from kohakuriver.runner.streams import frames
from kohakuriver.wire.link import MOST_INLINE_OUTPUT, Dial, DialFailed

LIMITS = OutputLimits(head=100, tail=300, segment=100, pending=50)


async def in_thread(function, *arguments, **named):
    return await asyncio.to_thread(function, *arguments, **named)


def pattern(size, start=0):
    return bytes((start + at) % 251 for at in range(size))


async def feed(live, data, offset=0, piece=37):
    for at in range(0, len(data), piece):
        await live.feed(Chunk(stream="stdout", offset=offset + at, data=data[at : at + piece]))


async def everything(stream):
    """The kept bytes as (offset, bytes), neighbours joined."""
    at, parts = 0, []
    while True:
        found, data = await stream.read(at, 64)
        if not data:
            return parts
        if parts and parts[-1][0] + len(parts[-1][1]) == found:
            parts[-1] = (parts[-1][0], parts[-1][1] + data)
        else:
            parts.append((found, data))
        at = found + len(data)


@pytest.mark.parametrize("size", [0, 1, 49, 50, 99, 100, 101, 400])
async def test_within_the_caps_every_byte_is_kept(tmp_path, size):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(size))
    sealed, _ = await live.seal()
    assert (sealed.size, sealed.head + sealed.tail) == (size, size)
    kept = await everything(live.streams["stdout"])
    assert b"".join(data for _, data in kept) == pattern(size)


@pytest.mark.parametrize("size", [450, 1000, 12345])
async def test_beyond_the_caps_the_first_and_the_last_bytes_are_kept(tmp_path, size):
    live = Live(tmp_path / "a", LIMITS, in_thread)
    await feed(live, pattern(size))
    sealed, _ = await live.seal()
    assert (sealed.size, sealed.head, sealed.tail) == (size, 100, 300)
    store = OutputStore(tmp_path, LIMITS, in_thread)
    kept = await everything(await store.ended("a", "stdout", sealed))
    assert kept == [(0, pattern(size)[:100]), (size - 300, pattern(size)[-300:])]
    assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) <= 100 + 300 + 100


async def test_few_bytes_make_no_file_and_ride_in_the_report(tmp_path):
    live = Live(tmp_path / "a", LIMITS, in_thread)
    await feed(live, b"few")
    stdout, stderr = await live.seal()
    assert (stdout.data, stderr.data, stderr.size) == (b"few", None, 0)
    assert not (tmp_path / "a").exists()


async def test_output_beyond_the_inline_limit_does_not_ride_in_the_report(tmp_path):
    live = Live(tmp_path / "a", OutputLimits(pending=2**20), in_thread)
    await feed(live, pattern(MOST_INLINE_OUTPUT), piece=4096)
    await live.feed(Chunk(stream="stderr", offset=0, data=b"x"))
    stdout, stderr = await live.seal()
    assert (stdout.data, stderr.data) == (None, None)
    assert (tmp_path / "a").exists()


async def test_bytes_that_come_again_are_taken_once(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(200))
    await feed(live, pattern(150, start=100), offset=100)
    sealed, _ = await live.seal()
    assert sealed.size == 250
    assert await everything(live.streams["stdout"]) == [(0, pattern(250))]


async def test_a_gap_gives_up_the_middle_and_keeps_true_offsets(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(250))
    await live.feed(Chunk(stream="stdout", offset=1000, data=b"after", at_least=True))
    sealed, _ = await live.seal()
    assert (sealed.size, sealed.head, sealed.tail, sealed.at_least) == (1005, 100, 5, True)
    assert await everything(live.streams["stdout"]) == [(0, pattern(100)), (1000, b"after")]


@pytest.mark.parametrize("begin", [0, 5, 200])
async def test_bytes_dropped_at_the_end_count_and_are_no_tail(tmp_path, begin):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(20), offset=begin)
    await live.feed(Chunk(stream="stdout", offset=1000, data=b""))
    sealed, _ = await live.seal()
    assert sealed.size == 1000
    assert (sealed.head, sealed.tail) == ((20, 0) if begin == 0 else (0, 0))


async def test_a_new_life_goes_on_where_the_files_end(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(333))
    again = Live(tmp_path, LIMITS, in_thread)
    await again.load()
    at = again.offsets.stdout
    assert 333 - LIMITS.pending < at <= 333
    await feed(again, pattern(400)[at:], offset=at)
    sealed, _ = await again.seal()
    assert (sealed.size, sealed.head, sealed.tail) == (400, 100, 300)
    assert await everything(again.streams["stdout"]) == [(0, pattern(400))]


async def test_a_full_disk_drops_bytes_and_goes_on(tmp_path, monkeypatch):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(90), piece=10)
    put = Segments._put

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segments, "_put", full)
    await feed(live, pattern(500)[90:200], offset=90, piece=10)
    monkeypatch.setattr(Segments, "_put", put)
    await feed(live, pattern(500)[200:], offset=200, piece=10)
    sealed, _ = await live.seal()
    assert sealed.size == 500
    assert 0 < sealed.head <= 90
    assert sealed.tail > 200
    kept = await everything(live.streams["stdout"])
    assert all(data == pattern(500)[at : at + len(data)] for at, data in kept)


async def test_a_disk_that_stays_full_keeps_the_head_and_the_true_size(tmp_path, monkeypatch):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(50), piece=50)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segments, "_put", full)
    await feed(live, pattern(500)[50:], offset=50)
    sealed, _ = await live.seal()
    assert (sealed.size, sealed.head, sealed.tail) == (500, 50, 0)


async def test_files_are_private_and_no_link_is_followed(tmp_path):
    segments = Segments(tmp_path, "stdout", LIMITS)
    segments.write(0, b"x")
    assert next(tmp_path.iterdir()).stat().st_mode & 0o777 == 0o600
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f"stderr.{0:016d}").symlink_to(victim)
    with pytest.raises(OSError):
        Segments(tmp_path, "stderr", LIMITS).write(0, b"evil")
    assert victim.read_bytes() == b"precious"


def parse(data):
    """Frames as (offset, bytes)."""
    found = []
    while data:
        offset, length = struct.unpack(">QI", data[:12])
        found.append((offset, data[12 : 12 + length]))
        data = data[12 + length :]
    return found


async def collect(source, offset, *, follow):
    return parse(b"".join([frame async for frame in frames(source, offset, follow=follow)]))


async def test_without_follow_a_reader_gets_what_is_there_and_the_size(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    await feed(live, pattern(120))
    stream = live.streams["stdout"]
    found = await collect(stream, 20, follow=False)
    assert b"".join(data for _, data in found) == pattern(120)[20:]
    assert (found[0][0], found[-1]) == (20, (120, b""))
    assert await collect(stream, 5000, follow=False) == [(120, b"")]


async def test_a_slow_follower_holds_nobody_up_and_sees_the_gap(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    reader = frames(live.streams["stdout"], 0, follow=True)
    await feed(live, pattern(60))
    first = parse(await anext(reader))
    await feed(live, pattern(5000)[60:], offset=60)
    live.end()
    rest = [piece async for piece in reader]
    found = first + parse(b"".join(rest))
    assert found[-1] == (5000, b"")
    assert all(data == pattern(5000)[at : at + len(data)] for at, data in found)
    assert found[-2][0] + len(found[-2][1]) == 5000
    assert sum(len(data) for _, data in found) < 5000


async def test_followers_wait_for_what_comes_and_end_with_the_run(tmp_path):
    live = Live(tmp_path, LIMITS, in_thread)
    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(collect(live.streams["stdout"], 0, follow=True)) for _ in range(3)]
        for at in range(0, 300, 10):
            await feed(live, pattern(300)[at : at + 10], offset=at)
            await asyncio.sleep(0)
        await live.seal()
    for follower in followers:
        assert b"".join(data for _, data in follower.result()) == pattern(300)


class Sink:
    """A host that takes raw streams."""

    def __init__(self, answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: kohakuriver-stream\r\n\r\n"):
        self.answer = answer
        self.heads = []
        self.bodies = asyncio.Queue()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _take(self, reader, writer):
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answer)
        self.bodies.put_nowait(await reader.read(-1))
        writer.close()


async def dialled(lab, peer, sink, **fields):
    """Points the runner's streams at the sink and asks for one."""
    settings = lab.runner.settings
    object.__setattr__(settings, "host_url", sink.url)
    await peer.send(Dial(ticket="ticket", **fields))
    async with asyncio.timeout(60):
        return await sink.bodies.get()


async def test_an_archive_carries_head_and_tail_of_both_streams(lab, peer):
    peer.forget_ended = False
    out = pattern(9000)
    await lab.start()
    await peer.assign("7.1", "say", out.hex(), b"err".hex(), "0")
    report = await peer.report("7.1", "exited")
    assert report.stdout.data is None
    async with Sink() as sink:
        body = await dialled(lab, peer, sink, kind="archive", attempt="7.1")
        header, _, rest = body.partition(b"\n")
        assert json.loads(header) == {
            "stdout": {"size": 9000, "head": 1024, "tail": 4096},
            "stderr": {"size": 3, "head": 3},
        }
        assert rest == out[:1024] + out[-4096:] + b"err"
        assert "GET /stream/ticket HTTP/1.1\r\n" in sink.heads[0]
        assert "Authorization: Bearer secret\r\n" in sink.heads[0]
        assert "Upgrade: kohakuriver-stream\r\n" in sink.heads[0]


async def test_a_live_run_is_followed_to_its_end(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    arguments = {"stream": "stdout", "offset": "0", "follow": "1"}
    async with Sink() as sink, asyncio.TaskGroup() as group:
        body = group.create_task(dialled(lab, peer, sink, kind="output", attempt="7.1", arguments=arguments))
        lab.world.say("7.1", pattern(1000))
        await lab.until(lambda: sink.heads)
        lab.world.say("7.1", b"the end")
        lab.world.end("7.1", 0)
        found = parse(await body)
    data = b"".join(data for _, data in found)
    assert hashlib.sha256(data).digest() == hashlib.sha256(b"up\n" + pattern(1000) + b"the end").digest()
    assert found[-1] == (len(data), b"")


async def test_a_follower_that_came_before_there_was_output_ends_with_an_attempt_that_never_ran(lab, peer):
    loading, go = asyncio.Event(), asyncio.Event()
    runner = lab.make()
    in_thread = runner._in_thread

    async def slow(function, *arguments, **named):
        if function.__name__ == "load":
            loading.set()
            await go.wait()
        return await in_thread(function, *arguments, **named)

    runner._in_thread = slow
    peer.forget_ended = False
    await lab.start()
    await peer.assign("7.1", "sleep", wanted="paused", revision=1)
    await lab.until(lambda: lab.world.bodies)
    async with Sink() as sink, asyncio.TaskGroup() as group:
        body = group.create_task(dialled(lab, peer, sink, kind="output", attempt="7.1", arguments={"follow": "1"}))
        await loading.wait()
        await peer.wish("7.1", "killed", 2)
        await peer.report("7.1", "never_started")
        go.set()
        assert parse(await body) == [(0, b"")]


async def test_output_that_was_inline_can_be_streamed_after_the_end(lab, peer):
    peer.forget_ended = False
    await lab.start()
    await peer.assign("7.1", "say", b"short".hex(), "", "0")
    await peer.report("7.1", "exited")
    async with Sink() as sink:
        body = await dialled(lab, peer, sink, kind="output", attempt="7.1", arguments={"offset": "2", "follow": "1"})
    assert parse(body) == [(2, b"ort"), (5, b"")]


@pytest.mark.parametrize("live", [True, False], ids=["followed", "ended"])
async def test_output_that_is_removed_while_it_is_read_is_no_end(tmp_path, live):
    """A short answer would look like output that never was; a broken stream is asked for again at the archive."""
    store = OutputStore(tmp_path, LIMITS, in_thread)
    stream = (await store.live("a")).streams["stdout"]
    await stream.feed(Chunk(stream="stdout", offset=0, data=pattern(400)))
    sealed = await stream.seal(inline=False)
    source = stream if live else await store.ended("a", "stdout", sealed)
    reader = frames(source, 0, follow=True)
    await anext(reader)
    await store.remove({"a": ()})
    with pytest.raises(FileNotFoundError):
        [frame async for frame in reader]
    with pytest.raises(FileNotFoundError):
        [frame async for frame in frames(await store.ended("a", "stdout", sealed), 0, follow=False)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "archive"}, "has not ended"),
        ({"kind": "dance"}, "no 'dance' streams"),
        ({"kind": "output", "arguments": {"stream": "stdin"}}, "no stream 'stdin'"),
        ({"kind": "output", "arguments": {"offset": "x"}}, "int"),
    ],
)
async def test_a_stream_that_cannot_be_is_refused_with_its_reason(lab, peer, fields, words):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.send(Dial(ticket="t1", attempt="7.1", **fields))
    assert words in (await peer.message(DialFailed)).reason


async def test_a_refused_upgrade_is_told(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    async with Sink(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n") as sink:
        object.__setattr__(lab.runner.settings, "host_url", sink.url)
        await peer.send(Dial(ticket="t1", attempt="7.1", kind="output"))
        assert "410 Gone" in (await peer.message(DialFailed)).reason
