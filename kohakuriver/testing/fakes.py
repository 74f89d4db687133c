"""Backends without processes, for tests of whoever uses a backend. The misbehaving ones are called by what they do.

A `World` is the machine: bodies live in it and survive the backend object, as containers survive a runner.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from kohakuriver.errors import BackendAway, PluginError
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.capabilities import CanPause
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Exit, Features, Handle, Image, Job, Offsets, Probe, Seen, Stats

ONE_READ = 64 * 1024


class FakeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fake has one option, so that options can be tested."""

    colour: str = "green"


@dataclass(kw_only=True)
class FakeBody:
    """One body in the world; tests may read everything here."""

    job: Job
    phase: str = "created"
    run: str | None = None
    attempt: str | None = None
    exit: Exit | None = None
    starts: int = 0
    signals: list[str] = field(default_factory=list)
    output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def going(self) -> bool:
        return self.phase in ("running", "paused")


class World:
    """The machine of the fakes. Time does not pass in it: a grace is over at once."""

    def __init__(self) -> None:
        self.bodies: dict[str, FakeBody] = {}
        self.prepared: list[str] = []
        self._runs = 0

    def begin(self, body: FakeBody, attempt: str) -> str:
        """Starts the body's program: `say`, `count` and `die` end at once, the others run."""
        self._runs += 1
        body.run, body.attempt, body.phase = f"run-{self._runs}", attempt, "running"
        body.starts += 1
        self._play(body)
        return body.run

    def say(self, instance: str, data: bytes, stream: str = "stdout") -> None:
        """The body writes."""
        body = self.bodies[instance]
        body.output[stream] += data
        _tell(body)

    def end(self, instance: str, code: int | None = 0, **fields: object) -> None:
        """The body ends by itself, with this code or as the fields of Exit say."""
        body = self.bodies[instance]
        body.phase = "exited"
        body.exit = Exit(code=code, finished=datetime.now(UTC), **fields)  # type: ignore[arg-type]
        _tell(body)

    def _play(self, body: FakeBody) -> None:
        name, *arguments = body.job.argv
        instance = body.job.instance
        variables = {**body.job.env, **body.job.secrets}
        if name == "say":
            self.say(instance, bytes.fromhex(arguments[0]))
            self.say(instance, bytes.fromhex(arguments[1]), "stderr")
            self.end(instance, int(arguments[2]))
        elif name == "variable":
            self.say(instance, variables[arguments[0]].encode())
            self.end(instance)
        elif name == "count":
            self.say(instance, b"".join(b"%d\n" % number for number in range(1, int(arguments[0]) + 1)))
            self.end(instance)
        elif name == "die":
            self.end(instance, 128 + int(arguments[0]), signal=int(arguments[0]))
        else:
            self.say(instance, b"up\n")


def _tell(body: FakeBody) -> None:
    body.changed.set()
    body.changed = asyncio.Event()


class FakeBackend(Backend, CanPause):
    """Keeps the contract in memory. Programs: `say HEX HEX CODE`, `sleep`, `stubborn`, `count N`, `die N`."""

    name: ClassVar[str] = "fake"
    features: ClassVar[Features] = Features(images=frozenset({"oci"}), nets=frozenset({"host"}))
    Options: ClassVar[type] = FakeOptions

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    async def open(self, ctx: Context) -> None:
        self.ctx = ctx

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe(usable=True, facts={"kind": "fake"})

    async def check(self, job: Job) -> Sequence[str]:
        return ["a fake has no devices"] if job.grant is not None and job.grant.devices else []

    async def prepare(self, image: Image, progress: Progress) -> None:
        progress("fetching", 0, 1)
        if image.digest not in self.world.prepared:
            self.world.prepared.append(image.digest)

    async def create(self, job: Job) -> Handle:
        body = self.world.bodies.setdefault(job.instance, FakeBody(job=job))
        if body.job.directory != job.directory:
            raise PluginError(f"body {job.instance} belongs to somebody else")
        return self._handle(job.instance)

    async def start(self, handle: Handle, job: Job) -> str:
        body = self._body(handle)
        if body.run is not None:
            if body.attempt != job.attempt:
                raise PluginError(f"body {job.instance} ran attempt {body.attempt} already")
            return body.run
        if job.argv[0] == "missing":
            raise PluginError("cannot start 'missing': no such file or directory")
        return self.world.begin(body, job.attempt)

    async def see(self, handle: Handle) -> Seen:
        body = self.world.bodies.get(handle.data["instance"])
        if body is None:
            return Seen(phase="gone")
        return Seen(phase=body.phase, run=body.run, exit=body.exit)  # type: ignore[arg-type]

    async def wait(self, handle: Handle, run: str) -> Exit:
        body = self._body(handle)
        while body.exit is None:
            await body.changed.wait()
        return body.exit

    async def stop(self, handle: Handle, run: str, grace: float) -> None:
        body = self.world.bodies.get(handle.data["instance"])
        if body is None or not body.going:
            return
        await asyncio.sleep(0)
        body.signals.append("TERM" if grace > 0 else "KILL")
        hard = grace <= 0 or body.job.argv[0] == "stubborn"
        self.world.end(handle.data["instance"], 137 if hard else 143, signal=9 if hard else 15)

    async def remove(self, handle: Handle) -> None:
        body = self.world.bodies.pop(handle.data["instance"], None)
        if body is not None and body.exit is None:
            body.exit = Exit(code=137, signal=9)
            body.phase = "exited"
            _tell(body)

    async def found(self) -> Sequence[tuple[str, Handle]]:
        return [(instance, self._handle(instance)) for instance in self.world.bodies]

    async def output(self, handle: Handle, run: str, at: Offsets) -> AsyncIterator[Chunk]:
        body = self._body(handle)
        places = {"stdout": at.stdout, "stderr": at.stderr}
        while True:
            waiting = body.changed
            ended = not body.going
            for stream, place in places.items():
                data = bytes(body.output[stream][place : place + ONE_READ])
                if data:
                    places[stream] = place + len(data)
                    ended = False
                    yield Chunk(stream="stdout" if stream == "stdout" else "stderr", offset=place, data=data)
            if ended:
                return
            if body.going and all(places[name] >= len(body.output[name]) for name in places):
                await waiting.wait()

    async def stats(self, handles: Sequence[Handle]) -> Mapping[str, Stats]:
        names = [handle.data["instance"] for handle in handles]
        return {name: Stats(cpu_seconds=1.0, memory_peak=4096) for name in names if name in self.world.bodies}

    async def pause(self, handle: Handle, run: str) -> None:
        body = self._body(handle)
        if body.going:
            body.phase = "paused"

    async def resume(self, handle: Handle, run: str) -> None:
        body = self._body(handle)
        if body.phase == "paused":
            body.phase = "running"

    def _handle(self, instance: str) -> Handle:
        return Handle(backend=self.name, data={"instance": instance})

    def _body(self, handle: Handle) -> FakeBody:
        body = self.world.bodies.get(handle.data["instance"])
        if body is None:
            raise PluginError(f"there is no body {handle.data['instance']}")
        return body


class SlowStart(FakeBackend):
    """start() takes until the test sets `go`."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__(world)
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def start(self, handle: Handle, job: Job) -> str:
        self.asked.set()
        await self.go.wait()
        return await super().start(handle, job)


class FailsToCreate(FakeBackend):
    """create() says no."""

    async def create(self, job: Job) -> Handle:
        raise PluginError(f"body {job.instance}: the disk is full")


class FailsToRemove(FakeBackend):
    """remove() fails with the error, so often."""

    def __init__(self, world: World | None = None, *, error: Exception, times: int = 1) -> None:
        super().__init__(world)
        self._error = error
        self.times = times

    async def remove(self, handle: Handle) -> None:
        if self.times:
            self.times -= 1
            raise self._error
        await super().remove(handle)


class AwayAtFirst(FakeBackend):
    """The runtime is away at each call that prepares or starts, the first two times."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__(world)
        self._asked: Counter[str] = Counter()

    async def create(self, job: Job) -> Handle:
        self._look("create")
        return await super().create(job)

    async def start(self, handle: Handle, job: Job) -> str:
        self._look("start")
        return await super().start(handle, job)

    def _look(self, step: str) -> None:
        self._asked[step] += 1
        if self._asked[step] <= 2:
            raise BackendAway("the runtime does not answer")


class FailsToStart(FakeBackend):
    """start() says no, and nothing was started."""

    async def start(self, handle: Handle, job: Job) -> str:
        raise PluginError(f"body {job.instance}: cannot be started")


class StartsAndFails(FakeBackend):
    """start() starts, and then says that it failed, once: the answer was lost on the way."""

    async def start(self, handle: Handle, job: Job) -> str:
        first = self._body(handle).run is None
        run = await super().start(handle, job)
        if first:
            raise PluginError(f"body {job.instance}: the connection broke")
        return run


class NeverEnds(FakeBackend):
    """stop() never returns and the run goes on."""

    async def stop(self, handle: Handle, run: str, grace: float) -> None:
        await asyncio.Event().wait()


class LosesTrack(FakeBackend):
    """After start it knows nothing of the body: see() says gone, wait() fails, found() is empty."""

    async def see(self, handle: Handle) -> Seen:
        seen = await super().see(handle)
        return seen if seen.phase == "created" else Seen(phase="gone")

    async def wait(self, handle: Handle, run: str) -> Exit:
        raise PluginError(f"there is no body {handle.data['instance']}")

    async def found(self) -> Sequence[tuple[str, Handle]]:
        return []


class Crashes(FakeBackend):
    """Every method of a run raises something that no contract allows."""

    async def start(self, handle: Handle, job: Job) -> str:
        raise ZeroDivisionError("a bug in the plugin")


class Silent(FakeBackend):
    """The runtime does not answer: see() and wait() never return."""

    async def see(self, handle: Handle) -> Seen:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def wait(self, handle: Handle, run: str) -> Exit:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")
