"""Docker containers as a workload backend: the contract's words, made of the Engine's.

A body is a container, started once in its life; its name and labels are its instance's. Whatever does not carry this
runner's label is not seen.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import msgspec

from kohakuriver.errors import Invalid, PluginError
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.capabilities import CanClaim, CanEnvironments, CanPackage, CanPause
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.environments import Environments
from kohakuriver.hooks.packages import Packages
from kohakuriver.hooks.values import Chunk, Exit, Features, Handle, Image, Job, Mount, Offsets, Probe, Seen, Stats
from kohakuriver_docker import container, devices, info, mounts, probe, refusals, usage
from kohakuriver_docker.bodies import CONFLICT, MISSING, Bodies
from kohakuriver_docker.config import SOCKET, Options, Settings, socket_path
from kohakuriver_docker.container import Listed, container_of
from kohakuriver_docker.engine import LONG, Engine, EngineError, Unreachable
from kohakuriver_docker.environments import DockerEnvironments
from kohakuriver_docker.exporting import Exporter
from kohakuriver_docker.images import Images
from kohakuriver_docker.importing import Importer
from kohakuriver_docker.names import INSTANCE, Names
from kohakuriver_docker.output import Reader
from kohakuriver_docker.packages import DockerPackages
from kohakuriver_docker.pushing import Pusher

logger = logging.getLogger(__name__)

OFF = "containers are off on this node; to allow them: plugins.docker.enabled = true"
PROBE_LIMIT = 8.0
#: seconds of one question for an end; asked again until it has come
ONE_WAIT = 300.0
#: seconds between two tries while the daemon is away
RETRIES = (0.2, 0.5, 1.0, 2.0, 5.0)
#: how long a container is young, and seconds after which one that was is signalled once more
YOUTH, AGAIN = timedelta(seconds=2), 1.0
#: seconds that a killed container may take to be gone
DEATH = 60.0
MOUNT_LIMIT = 5.0


class DockerBackend(Backend, CanPause, CanClaim, CanPackage, CanEnvironments):
    """Runs command tasks in containers."""

    name: ClassVar[str] = "docker"
    features: ClassVar[Features] = Features(
        images=frozenset({"oci"}), nets=frozenset({"private", "none", "host"}), device_modes=frozenset({"host"})
    )
    Options: ClassVar[type] = Options

    async def open(self, ctx: Context) -> None:
        try:
            self._settings = msgspec.convert(dict(ctx.config), Settings)
        except msgspec.ValidationError as error:
            raise PluginError(f"settings of the docker backend: {error}") from None
        self._ctx = ctx
        self._trouble = None if self._settings.enabled else OFF
        try:
            socket = socket_path(self._settings)
        except PluginError as error:
            socket, self._trouble = SOCKET, error.message
        self._engine = Engine(socket)
        self._names = Names(ctx)
        self._bodies = Bodies(self._engine, self._names, self._settings, ctx)
        silence = self._settings.pull_silence
        self._importer = Importer(self._engine, ctx, self._settings, self._facts)
        self._images = Images(self._engine, self._names, ctx, self._importer, silence)
        exporter, pusher = Exporter(self._engine, ctx, silence, self._facts), Pusher(self._engine, ctx, silence)
        self._packages = DockerPackages(self._engine, self._names, self._images, exporter, pusher)
        self._environments = DockerEnvironments(
            self._engine,
            self._names,
            self._settings,
            ctx,
            network=self._bodies.network,
            packages=self._packages,
            importer=self._importer,
        )
        self._info: info.Info | None = None
        #: what containers were last seen to use, by instance
        self._used: dict[str, Stats] = {}
        #: the first process of each that ran then: while it is there, the daemon need not be asked at every heartbeat
        self._mains: dict[str, int] = {}

    async def close(self) -> None:
        for attached in list(self._bodies.attached):
            await self._bodies.forget(attached)
        await self._engine.close()

    async def probe(self) -> Probe:
        if self._trouble is not None:
            return Probe(usable=False, problems=(self._trouble,))
        try:
            self._info = await info.read(self._engine, PROBE_LIMIT)
            await self._bodies.clear_doubtful()
        except PluginError as error:
            return Probe(usable=False, problems=(error.message,))
        return probe.describe(self._info, self._settings, self._engine.socket)

    async def check(self, job: Job) -> Sequence[str]:
        if self._trouble is not None:
            return [self._trouble]
        found = refusals.refusals(job, self._settings, await self._facts())
        try:
            await self._mounts(job)
        except Invalid as error:
            found.append(error.message)
        return found

    @property
    def packages(self) -> Packages:
        return self._packages

    @property
    def environments(self) -> Environments:
        return self._environments

    async def prepare(self, image: Image, progress: Progress) -> None:
        await self._images.prepare(image, progress)

    async def create(self, job: Job) -> Handle:
        how = devices.way(self._settings.gpus, await self._facts())
        made = await self._bodies.create(job, await self._mounts(job), how)
        return self._handle(job.instance, made)

    async def start(self, handle: Handle, job: Job) -> str:
        return await self._bodies.start(container_of(handle), job)

    async def see(self, handle: Handle) -> Seen:
        try:
            found = await self._bodies.look(container_of(handle))
        except EngineError as error:
            if error.status == MISSING:
                return Seen(phase="gone")
            raise
        return container.seen(found, self._engine)

    async def wait(self, handle: Handle, run: str) -> Exit:  # noqa: ARG002 -- a container has one run
        tries = 0
        while True:
            try:
                if tries:
                    await asyncio.sleep(RETRIES[min(tries, len(RETRIES)) - 1])
                await self._until_ended(container_of(handle), ONE_WAIT)
                seen = await self.see(handle)
            except Unreachable as error:
                if not tries:
                    logger.warning("Docker is away", extra={"action": "wait", "error": error.message})
                tries += 1
                continue
            if seen.phase in ("exited", "gone"):
                return seen.exit or Exit(reason=seen.note or "its container was removed")
            tries = 0 if seen.phase in ("running", "paused") else tries + 1

    async def stop(self, handle: Handle, run: str, grace: float) -> None:  # noqa: ARG002 -- a container has one run
        name = container_of(handle)
        if grace > 0:
            if not await self._signal(name, "SIGTERM"):
                return
            patience = min(grace, AGAIN) if await self._is_young(name) else grace
            if await self._until_ended(name, patience):
                return
            if patience < grace:
                await self._signal(name, "SIGTERM")
                if await self._until_ended(name, grace - patience):
                    return
        if await self._signal(name, "SIGKILL") and not await self._until_ended(name, DEATH):
            raise PluginError(f"container {name[:12]} was killed and does not end")

    async def pause(self, handle: Handle, run: str) -> None:  # noqa: ARG002 -- a container has one run
        await self._freeze(handle, "pause", "paused")

    async def resume(self, handle: Handle, run: str) -> None:  # noqa: ARG002 -- a container has one run
        await self._freeze(handle, "unpause", "running")

    async def remove(self, handle: Handle) -> None:
        name, instance = container_of(handle), handle.data["instance"]
        await self._bodies.remove(name)
        self._used.pop(instance, None)
        self._mains.pop(instance, None)
        await self._ctx.in_thread(_unlink, self._begins(handle))

    async def found(self) -> Sequence[tuple[str, Handle]]:
        if self._trouble is not None:
            return []
        filters = msgspec.json.encode({"label": [self._names.filter]}).decode()
        listed = await self._engine.ask(list[Listed], "/containers/json", params={"all": "1", "filters": filters})
        mine = [item for item in listed if self._names.is_ours(item.labels) and item.labels.get(INSTANCE)]
        return [(item.labels[INSTANCE], self._handle(item.labels[INSTANCE], item.id)) for item in mine]

    async def output(self, handle: Handle, run: str, at: Offsets) -> AsyncIterator[Chunk]:  # noqa: ARG002 -- one run
        name = container_of(handle)
        attached = self._bodies.attached.pop(name, None)
        if attached is not None and at != Offsets():
            await attached.close()
            attached = None
        reader = Reader(self._engine, self._ctx, self._bodies.look, name, begins=self._begins(handle), at=at)
        async with contextlib.aclosing(reader.chunks(attached)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stats(self, handles: Sequence[Handle]) -> Mapping[str, Stats]:
        names = {handle.data["instance"]: container_of(handle) for handle in handles}
        mains = {instance: (name, self._mains[instance]) for instance, name in names.items() if instance in self._mains}
        found = await self._measure(mains)
        running: dict[str, tuple[str, int]] = {}
        for instance in names.keys() - found.keys():
            self._mains.pop(instance, None)
            try:
                state = (await self._bodies.look(names[instance])).state
            except EngineError:
                continue
            found[instance] = self._used.get(instance, Stats())
            if state.pid:
                running[instance] = (names[instance], state.pid)
                self._mains[instance] = state.pid
        return found | await self._measure(running)

    async def claim(self, handles: Sequence[Handle], pids: Sequence[int]) -> Mapping[int, str]:
        containers = {handle.data["instance"]: handle.data["container"] for handle in handles}
        return await self._ctx.in_thread(usage.owners, containers, pids)  # type: ignore[no-any-return]

    async def _measure(self, running: Mapping[str, tuple[str, int]]) -> dict[str, Stats]:
        """By instance, of containers and their first processes; of another process with that number nothing is told."""
        measured: dict[str, Stats] = await self._ctx.in_thread(usage.measure, running) if running else {}
        self._used.update(measured)
        return measured

    async def _facts(self) -> info.Info:
        if self._info is None:
            self._info = await info.read(self._engine, PROBE_LIMIT)
        return self._info

    async def _mounts(self, job: Job) -> Sequence[Mount]:
        closed = [self._ctx.state, *self._ctx.closed, Path(self._engine.socket)]
        async with asyncio.timeout(MOUNT_LIMIT):
            found: Sequence[Mount] = await self._ctx.in_thread(mounts.resolve, job, self._settings, closed)
        return found

    async def _until_ended(self, name: str, limit: float) -> bool:
        """Whether the container has ended within `limit` seconds. Raises Unreachable when the daemon goes away."""
        try:
            async with (
                asyncio.timeout(limit),
                self._engine.stream("POST", f"/containers/{name}/wait") as response,
            ):
                await response.read()
        except TimeoutError:
            return False
        except EngineError as error:
            if error.status != MISSING:
                raise
        return True

    async def _is_young(self, name: str) -> bool:
        """Whether its init may not have been up when the signal came: the kernel keeps no signal for a process 1."""
        try:
            started = (await self._bodies.look(name)).state.started
        except EngineError:
            return False
        return datetime.now(UTC) - started < YOUTH

    async def _signal(self, name: str, signal: str) -> bool:
        """Whether there was anybody to signal."""
        try:
            await self._engine.send("POST", f"/containers/{name}/kill", params={"signal": signal}, limit=LONG)
        except EngineError as error:
            if error.status not in (CONFLICT, MISSING):
                raise
            return False
        return True

    async def _freeze(self, handle: Handle, verb: str, phase: str) -> None:
        try:
            await self._engine.send("POST", f"/containers/{container_of(handle)}/{verb}", limit=LONG)
        except EngineError as error:
            if (await self.see(handle)).phase != phase:
                raise PluginError(f"body {handle.data['instance']}: {error.message}") from None

    def _handle(self, instance: str, made: str) -> Handle:
        return Handle(backend=self.name, version=1, data={"instance": instance, "container": made})

    def _begins(self, handle: Handle) -> Path:
        return self._ctx.state / "begins" / str(handle.data["instance"])


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
