"""A runner with a scripted host: real SQLite, real sockets, fake backends in a world that outlives the runner."""

import asyncio
import contextlib
import heapq
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSMsgType, web

from kohakuriver.runner.clock import Clock
from kohakuriver.runner.runner import Runner
from kohakuriver.runner.settings import OutputLimits, RunnerSettings
from kohakuriver.testing.fakes import FakeBackend, World
from kohakuriver.wire import codec
from kohakuriver.wire.link import (
    Ack,
    Assign,
    Forget,
    FromRunner,
    Heartbeat,
    Hello,
    Inventory,
    Renew,
    Report,
    WantedSet,
    Welcome,
    WireCell,
    WireReserved,
    Wish,
)

PATIENCE = 60.0
#: without news for so long, a little of the test's time passes: a busy machine may have cost the link, or a retry waits
STALLED = 0.5
A_LITTLE = 0.1


class Hands:
    """A clock whose time the test moves."""

    def __init__(self):
        self.now = 1000.0
        self._sleepers = []
        self._count = 0

    def clock(self):
        return Clock(wall=self.wall, boot=lambda: self.now, sleep=self.sleep, chance=lambda: 0.5)

    def wall(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)

    async def sleep(self, seconds):
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, future))
        await future

    def advance(self, seconds):
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def pass_time(self, seconds):
        """Second by second, so that the link's pings are answered in between."""
        for _ in range(seconds):
            self.advance(1)
            await asyncio.sleep(0.003)


class CountingWorld(World):
    """Remembers every start, as a log that the runner never reads."""

    def __init__(self):
        super().__init__()
        self.started = Counter()

    def begin(self, body, attempt):
        self.started[attempt] += 1
        return super().begin(body, attempt)


class Peer:
    """A host that keeps to wire.md unless a test tells it otherwise."""

    def __init__(self):
        self.cluster = "cluster-1"
        self.incarnation = 1
        self.acknowledge = True
        self.on_hello = None
        self.hellos = []
        self.inventories = []
        self.received = []
        self.reports = {}
        self.acknowledged = {}
        self.assigned = {}
        self.forget_ended = True
        #: whether heartbeats are answered, so that leases go on
        self.renews = True
        self.socket = None
        self.handshake = None
        self.url = ""
        self.live = asyncio.Event()
        self.stalled = lambda: None
        self._news = asyncio.Condition()
        self._runner = None

    async def start(self, context=None):
        app = web.Application()
        app.router.add_get("/link", self._link)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def close(self):
        await self.drop()
        await self._runner.cleanup()

    async def send(self, message):
        await self.socket.send_str(codec.encode(message).decode())

    async def drop(self):
        """Cuts the link."""
        self.live.clear()
        transport = None if self.socket is None else self.socket._req.transport
        if transport is not None:
            transport.abort()

    async def assign(self, attempt, *argv, send=True, **fields):
        fields = {"image": "img", "reserved": WireReserved(cpu_milli=1000), "owner": "ann", **fields}
        message = Assign(
            attempt=attempt, instance=attempt, backend=fields.pop("backend", "fake"), argv=list(argv), **fields
        )
        self.assigned[attempt] = message
        if send:
            await self.send(message)
        return message

    async def wish(self, attempt, wanted, revision, grace=1.0):
        await self.send(WantedSet(wishes=[Wish(attempt=attempt, wanted=wanted, revision=revision, grace=grace)]))

    def of(self, attempt):
        """The reports of an attempt, duplicates left out."""
        return [report for _, report in sorted(self.reports.items()) if report.attempt == attempt]

    def words(self, attempt):
        return [report.what for report in self.of(attempt)]

    async def report(self, attempt, what, count=1):
        """Waits for a report."""

        def there():
            return len([r for r in self.of(attempt) if r.what == what]) >= count

        await self.until(there)
        return [report for report in self.of(attempt) if report.what == what][-1]

    async def until(self, condition):
        """Waits until the condition holds; looked at with every message."""
        async with asyncio.timeout(PATIENCE), self._news:
            while not condition():
                try:
                    async with asyncio.timeout(STALLED):
                        await self._news.wait()
                except TimeoutError:
                    self.stalled()

    async def message(self, kind, count=1):
        await self.until(lambda: len([m for m in self.received if isinstance(m, kind)]) >= count)
        return [m for m in self.received if isinstance(m, kind)][-1]

    async def _link(self, request):
        if self.handshake is not None:
            self.hellos.append(None)
            async with self._news:
                self._news.notify_all()
            return self.handshake(request)
        socket = web.WebSocketResponse(max_msg_size=2**20)
        await socket.prepare(request)
        self.socket = socket
        self.live.clear()
        with contextlib.suppress(ConnectionError):
            async for frame in socket:
                if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._take(codec.decode(frame.data, FromRunner))
                    async with self._news:
                        self._news.notify_all()
        return socket

    async def _take(self, message):
        self.received.append(message)
        match message:
            case Hello():
                self.hellos.append(message)
                answer = self.on_hello(message) if self.on_hello is not None else self.welcome(message)
                await self.send(answer)
            case Inventory():
                self.inventories.append(message)
                if message.last:
                    await self.send(WantedSet(complete=True))
                    await self._sync(message)
                    self.live.set()
            case Heartbeat():
                if self.renews and message.number:
                    await self.send(Renew(number=message.number))
            case Report():
                await self._report(message)

    def welcome(self, hello):
        return Welcome(
            cluster=self.cluster,
            incarnation=self.incarnation,
            session=hello.session,
            node="n1",
            acknowledged=self.acknowledged.get(hello.epoch, 0),
        )

    async def _sync(self, inventory):
        held = {entry.attempt: entry for entry in inventory.held}
        for attempt, message in self.assigned.items():
            if attempt not in held and not self.of(attempt):
                await self.send(message)
        ended = [name for name, entry in held.items() if entry.phase in ("exited", "closed")]
        await self._forget([name for name in ended if self._knows_end(name)])

    async def _report(self, message):
        epoch = self.hellos[-1].epoch
        self.reports[epoch, message.seq] = message
        if self.acknowledge:
            self.acknowledged[epoch] = max(message.seq, self.acknowledged.get(epoch, 0))
            await self.send(Ack(seq=message.seq))
            if self._knows_end(message.attempt):
                await self._forget([message.attempt])

    def _knows_end(self, attempt):
        ends = {"exited", "start_failed", "never_started", "refused_for_now", "refused_for_good", "unknown"}
        return bool(ends & set(self.words(attempt)))

    async def _forget(self, attempts):
        if attempts and self.forget_ended:
            await self.send(Forget(attempts=attempts))


async def no_command(argv, *, limit, input=b"", env=None):
    raise AssertionError(f"no helper command is expected: {argv}")


class Lab:
    """A node: its world, its data directory, its runner in as many lives as a test wants."""

    def __init__(self, path, peer):
        self.path = path
        self.peer = peer
        self.hands = Hands()
        peer.stalled = lambda: self.hands.advance(A_LITTLE)
        self.world = CountingWorld()
        self.boot = "boot-1"
        self.cells = [WireCell(cpus=[0, 1, 2, 3], siblings=[0, 0, 2, 2], memory=2**33)]
        self.kind = FakeBackend
        self.syncers = []
        self.backend = None
        self.runner = None
        self.task = None

    def make(self, **changes):
        settings = {
            "data_dir": self.path / "node",
            "host_url": self.peer.url,
            "credential": "secret",
            "name": "n1",
            "cluster": "cluster-1",
            "output": OutputLimits(head=1024, tail=4096, segment=1024, pending=256),
            "drain_limit": 1.0,
            **changes,
        }
        self.backend = self.kind(self.world)
        self.runner = Runner(
            RunnerSettings(**settings),
            [self.backend],
            syncers=self.syncers,
            run_command=no_command,
            clock=self.hands.clock(),
            boot=self.boot,
            cells=lambda: self.cells,
        )
        return self.runner

    async def start(self, *, live=True, **changes):
        if self.runner is None:
            self.make(**changes)
        self.task = asyncio.get_running_loop().create_task(self.runner.run())
        if live:
            await self.until_live()

    async def until_live(self):
        """Waits for the complete greeting."""
        live = asyncio.get_running_loop().create_task(self.peer.live.wait())
        await asyncio.wait({live, self.task}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        live.cancel()
        if self.task.done():
            self.task.result()
        assert self.peer.live.is_set()

    async def passing(self, condition):
        """Lets time pass until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.hands.pass_time(1)

    async def until(self, condition):
        """Waits until the condition holds, and no time passes."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def dialled(self, count):
        """Lets time pass until the host was greeted so often."""
        await self.passing(lambda: len(self.peer.hellos) >= count)

    async def relink(self):
        """Cuts the link and waits until it is live again."""
        count = len(self.peer.hellos) + 1
        await self.peer.drop()
        await self.dialled(count)
        await self.until_live()

    async def die(self):
        """The runner is gone, as far as its coroutines can tell: nothing runs after the line it stood on."""
        self.peer.live.clear()
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=PATIENCE)
        assert self.task.done()
        if not self.task.cancelled():
            self.task.result()
        self.task = self.runner = None

    async def stop(self):
        if self.task is not None:
            self.runner.stop()
            async with asyncio.timeout(PATIENCE):
                await self.task
            self.task = self.runner = None

    @property
    def entries(self):
        return self.runner.journal.attempts

    async def gone(self, attempt):
        """Waits until the attempt is forgotten."""
        await self.until(lambda: attempt not in self.entries)

    async def acknowledged(self):
        """Waits until no report is left to be told."""
        await self.until(lambda: not len(self.runner.journal.outbox))


@pytest.fixture
async def peer():
    host = Peer()
    await host.start()
    yield host
    await host.close()


@pytest.fixture
async def lab(tmp_path, peer):
    node = Lab(tmp_path, peer)
    yield node
    await node.stop()
