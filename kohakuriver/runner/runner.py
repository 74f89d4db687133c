"""The runner role: its parts, made once, and one TaskGroup around them. Stopping it touches no workload."""

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kohakuriver
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.context import Context, RunCommand
from kohakuriver.hooks.syncer import Blobs, SyncContext, Syncer
from kohakuriver.runner import backends as kinds
from kohakuriver.runner import heartbeat
from kohakuriver.runner.accept import Attempts
from kohakuriver.runner.clock import Clock, boot_id
from kohakuriver.runner.desk import LONGEST_REASON, Desk
from kohakuriver.runner.environments import syncers
from kohakuriver.runner.environments.blobs import HostBlobs
from kohakuriver.runner.environments.service import EnvironmentService
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.lease import Lease
from kohakuriver.runner.link import Link
from kohakuriver.runner.output import OutputStore
from kohakuriver.runner.probes.gpu import Gpus
from kohakuriver.runner.probes.reading import Missing
from kohakuriver.runner.recover import adopt, recover
from kohakuriver.runner.session import Order
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.runner.steps import inside
from kohakuriver.runner.streams import serve_dial
from kohakuriver.wire.link import (
    LEASE,
    Assign,
    BackendInfo,
    Dial,
    DialFailed,
    Forget,
    Hello,
    Progress,
    Refresh,
    SyncerInfo,
    WantedSet,
    WireCell,
    WireDevice,
    WireReserved,
)

log = logging.getLogger(__name__)

THREADS = 8
REFRESH_SECONDS = 60.0
#: after the start and after a change for the worse it is looked again soon: a probe may have failed by chance
FIRST_REFRESH_SECONDS = 2.0
HEARTBEAT_SECONDS = 5.0
#: the first look at the cards wakes their driver up; without an answer the runner goes on, and tells of them later
FIRST_LOOK_SECONDS = 5.0
MOST_STREAMS = 256


class _Stopped(Exception):
    pass


class Runner:
    """One node. Made, run once, thrown away."""

    def __init__(
        self,
        settings: RunnerSettings,
        backends: Sequence[Backend],
        *,
        run_command: RunCommand,
        syncers: Sequence[Syncer] = (),
        clock: Clock | None = None,
        boot: str | None = None,
        cells: Callable[[], list[WireCell]] | None = None,
        gpus: Gpus | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.boot = boot or boot_id()
        self.journal = Journal(settings.data_dir)
        self.lease = Lease(self.journal, self.clock, self.boot)
        self.running = asyncio.Event()
        self._given = backends
        self._given_syncers = syncers
        self._run_command = run_command
        self._cells = cells or kinds.machine(settings)
        self._gpus = gpus or Gpus()
        self._stop = asyncio.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="runner")
        self._streams = 0
        self._infos: list[BackendInfo] = []
        self._ways: list[SyncerInfo] = []
        self._inventory: list[WireCell] = []
        self._found: list[WireDevice] = []
        self._devices: dict[str, WireDevice] = {}
        self._told = False

    def stop(self) -> None:
        """Asks `run` to return. May be called twice."""
        self._stop.set()

    async def run(self) -> None:
        """Runs until `stop` or cancellation. Raises what makes it useless: a held directory, a broken journal."""
        await self.journal.open(epoch=int(self.clock.wall().timestamp() * 1000) * 1000 + secrets.randbelow(1000))
        opened: list[Backend] = []
        ways: dict[str, Syncer] = {}
        blobs = HostBlobs(self.settings, self.clock, self._in_thread)
        try:
            await self.journal.wake_in(self.boot)
            await self.lease.open()
            await self.journal.belong(self.settings.credential, self.settings.cluster)
            opened = await kinds.open_all(self._given, self._context, self._infos)
            ways = await syncers.open_all(self._given_syncers, lambda name: self._sync_context(name, blobs), self._ways)
            await self._serve({backend.name: backend for backend in opened}, ways)
        finally:
            await syncers.close_all(ways)
            await blobs.close()
            await kinds.close_all(opened)
            self._gpus.close()
            await self.journal.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, backends: dict[str, Backend], ways: dict[str, Syncer]) -> None:
        with contextlib.suppress(Missing):  # the heartbeats say why
            await self._gpus.look(FIRST_LOOK_SECONDS)
        self._infos, self._found = await kinds.look(backends, self._infos)
        self._ways = await syncers.look(ways, self._ways)
        self._take_stock(await self._in_thread(self._cells))
        desk = Desk(
            settings=self.settings,
            journal=self.journal,
            output=OutputStore(self.settings.data_dir / "output", self.settings.output, self._in_thread),
            clock=self.clock,
            lease=self.lease,
            boot=self.boot,
            backends=backends,
            devices=self._devices,
            gpus=self._gpus,
            environments=EnvironmentService(
                settings=self.settings,
                journal=self.journal,
                clock=self.clock,
                in_thread=self._in_thread,
                backends=backends,
                syncers=ways,
                trouble=lambda name: kinds.trouble(self._infos, name),
            ),
            in_thread=self._in_thread,
            progress=lambda attempt, note: self.link.send(Progress(attempt=attempt, note=note)),
        )
        try:
            async with asyncio.TaskGroup() as group:
                self.attempts = Attempts(desk, group, lambda: self._inventory)
                self.link = self._link(desk, group)
                await desk.environments.begin(group)
                adopt(desk, self.attempts)
                for backend in backends.values():
                    group.create_task(recover(desk, self.attempts, backend), name=f"recover {backend.name}")
                group.create_task(self.lease.watch(self.attempts.wake), name="lease")
                group.create_task(self.link.run(), name="link")
                group.create_task(self._beat(desk), name="heartbeat")
                group.create_task(self._refresh(desk, ways), name="refresh")
                self.running.set()
                await self._until_stopped()
        except* _Stopped:
            log.info("the runner stops; what runs goes on")

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        raise _Stopped

    def _link(self, desk: Desk, group: asyncio.TaskGroup) -> Link:
        return Link(
            self.settings,
            self.journal,
            self.clock,
            hello=self._hello,
            order=lambda message: self._order(desk, group, message),
            unreadable_assign=self._refuse,
            settled=self.attempts.settled,
            lease=self.lease,
        )

    def _hello(self) -> Hello:
        return Hello(
            features=[LEASE],
            version=kohakuriver.__version__,
            cluster=self.journal.cluster or self.settings.cluster,
            incarnation=self.journal.incarnation,
            epoch=self.journal.epoch,
            boot=self.boot,
            session=secrets.token_hex(16),
            cells=self._inventory,
            backends=self._infos,
            labels=dict(self.settings.labels),
            pinnable=self._pinnable(self._inventory),
            devices_told=self._told,
            clock=self.clock.wall(),
            syncers=self._ways,
        )

    def _take_stock(self, cells: Sequence[WireCell]) -> bool:
        """Puts the devices that are known now into the cells; whether anything is new."""
        before = self._inventory, self._told
        self._told = self._gpus.told
        self._inventory = kinds.furnish(cells, self._found, self._gpus.reading.devices)
        self._devices.clear()
        self._devices.update({device.id: device for cell in self._inventory for device in cell.devices})
        return before != (self._inventory, self._told)

    def _tell_stock(self) -> None:
        self.link.send(
            Refresh(
                cells=self._inventory,
                backends=self._infos,
                pinnable=self._pinnable(self._inventory),
                devices_told=self._told,
                syncers=self._ways,
            )
        )

    def _pinnable(self, cells: list[WireCell]) -> list[int] | None:
        """The cpus that are set apart, as far as this machine has them."""
        chosen = self.settings.pinnable_cpus
        there = {cpu for cell in cells for cpu in cell.cpus}
        return None if chosen is None else sorted(there.intersection(chosen))

    def _order(self, desk: Desk, group: asyncio.TaskGroup, message: Order) -> None:
        """What the host wants; returns at once."""
        match message:
            case Assign():
                self.attempts.assign(message)
            case WantedSet():
                for wish in message.wishes:
                    self.attempts.wish(wish)
            case Forget():
                for attempt in message.attempts:
                    self.attempts.forget(attempt)
            case Dial():
                group.create_task(self._stream(desk, message), name=f"stream {message.kind}")

    async def _stream(self, desk: Desk, dial: Dial) -> None:
        if self._streams >= MOST_STREAMS:
            self.link.send(DialFailed(ticket=dial.ticket, reason="this node serves too many streams"))
            return
        self._streams += 1
        try:
            reason = await serve_dial(desk, dial)
        except Exception as error:  # one stream takes no runner down; logged here, and the host is told
            log.exception("a stream failed", extra={"attempt": dial.attempt, "kind": dial.kind})
            reason = f"the stream failed: {error!r}"[:LONGEST_REASON]
        finally:
            self._streams -= 1
        if reason is not None:
            self.link.send(DialFailed(ticket=dial.ticket, reason=reason))

    def _refuse(self, attempt: str, why: str) -> None:
        """An assignment that this runner cannot read is refused for good rather than awaited for ever."""
        empty = Assign(attempt=attempt, instance=attempt, owner="", reserved=WireReserved())
        self.attempts.refuse(empty, f"the assignment cannot be read: {why}")

    async def _beat(self, desk: Desk) -> None:
        while True:
            self.link.send(await heartbeat.measure(desk))
            if self._take_stock(self._inventory):  # a card was lost, or the driver came or went
                self._tell_stock()
            session = self.link.session
            welcome = None if session is None else session.welcome
            every = HEARTBEAT_SECONDS if welcome is None else min(60.0, max(0.5, welcome.heartbeat_seconds))
            await self.clock.sleep(every)

    async def _refresh(self, desk: Desk, ways: dict[str, Syncer]) -> None:
        """Tells the host when backends, syncers or inventory have changed."""
        wait = FIRST_REFRESH_SECONDS
        while True:
            await self.clock.sleep(wait)
            wait = min(2 * wait, REFRESH_SECONDS)
            infos, self._found = await kinds.look(desk.backends, self._infos)
            told = await syncers.look(ways, self._ways)
            changed = (infos, told) != (self._infos, self._ways)
            self._infos, self._ways = infos, told
            if self._take_stock(await self._in_thread(self._cells)) or changed:
                if not all(info.usable for info in infos):
                    wait = FIRST_REFRESH_SECONDS
                self._tell_stock()

    def _context(self, name: str) -> Context:
        state = self.settings.data_dir / "backends" / name
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Context(
            cluster=self.journal.cluster or self.settings.cluster,
            node=self.settings.name,
            boot=self.boot,
            state=state,
            closed=inside.closed(self.settings),
            config=self.settings.backend_config.get(name, {}),
            run=self._run_command,
            in_thread=self._in_thread,
        )

    def _sync_context(self, name: str, blobs: Blobs) -> SyncContext:
        state = self.settings.data_dir / "syncers" / name
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SyncContext(
            cluster=self.journal.cluster or self.settings.cluster,
            node=self.settings.name,
            state=state,
            config=self.settings.syncer_config.get(name, {}),
            blobs=blobs,
            run=self._run_command,
            in_thread=self._in_thread,
        )

    def _in_thread(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pool, functools.partial(function, *arguments, **named))
