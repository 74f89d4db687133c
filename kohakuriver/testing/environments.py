"""A backend with images and environment containers, a syncer and its medium, all in memory: no engine, no network.

What lies in `LocalImages`, `Rooms` and `Medium` outlives the backend object, as images outlive a runner.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from kohakuriver.errors import Conflict, Invalid, NotFound, PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.capabilities import CanEnvironments, CanPackage
from kohakuriver.hooks.environments import EnvironmentContainer, Environments, FileInfo, Files, Terminal
from kohakuriver.hooks.packages import Held, HeldImage, NeedsLayers, Package, Packages, Stored, Version
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Handle, Image, Job, Probe
from kohakuriver.testing.fakes import FakeBackend, World
from kohakuriver.testing.syncing import FakePackages


class LocalImages(FakePackages):
    """The images of one machine, with the names that versions have there."""

    def __init__(self) -> None:
        super().__init__()
        #: digest -> environment and number
        self.versions: dict[str, tuple[str, int]] = {}
        #: images that a container is made of
        self.used: set[str] = set()
        #: how often it was asked what is here
        self.looks = 0
        #: layers that it wants although it has them
        self.forgetful = False

    async def held(self) -> Held:
        self.looks += 1
        held = await super().held()
        images = {
            digest: HeldImage(
                digest=digest,
                size=self.images[digest][0].size,
                used=digest in self.used,
                environment=self.versions.get(digest),
            )
            for digest in held.images
        }
        return replace(held, images=images)

    def load(self, image: Image) -> None:
        """Takes a bundle in. Raises NeedsLayers when it lacks what is not here."""
        assert image.path is not None
        package = bundles.read_index(image.path)
        if package.digest != image.digest:
            raise PluginError(f"{image.digest} was asked for, and {package.digest} came")
        mine = {} if self.forgetful else {d: c for _, contents in self.images.values() for d, c in contents.items()}
        contents: dict[str, bytes] = {}
        for layer in package.layers:
            path = bundles.blob(image.path, layer.digest)
            if path.exists():
                contents[layer.digest] = b"".join(bundles.unpack(path))
            elif layer.digest in mine:
                contents[layer.digest] = mine[layer.digest]
            else:
                raise NeedsLayers(f"image {image.digest}: a layer is wanted", [layer.digest])
        self.images[package.digest] = package, contents
        if image.environment:
            self.versions[package.digest] = image.environment, image.number

    async def drop(self, digest: str) -> bool:
        if digest in self.used:
            return False
        self.versions.pop(digest, None)
        return await super().drop(digest)


class PackagingBackend(FakeBackend, CanPackage, CanEnvironments):
    """A fake that runs bodies from its images alone."""

    def __init__(self, world: World, images: LocalImages, rooms: "Rooms | None" = None) -> None:
        super().__init__(world)
        self.images = images
        self.rooms = rooms or Rooms(images)
        #: images that came from elsewhere
        self.loads: list[str] = []

    @property
    def packages(self) -> Packages:
        return self.images

    @property
    def environments(self) -> Environments:
        return self.rooms

    async def prepare(self, image: Image, progress: Progress) -> None:
        if image.path is not None:
            progress("loading", 0, 2)
            self.images.load(image)
            self.loads.append(image.digest)
        elif image.reference not in self.images.images:
            raise PluginError(f"there is no image {image.reference}")

    async def create(self, job: Job) -> Handle:
        assert job.image is not None
        if job.image.digest not in self.images.images:
            raise PluginError(f"body {job.instance}: no such image {job.image.digest}")
        return await super().create(job)


class FakeTerminal(Terminal):
    """Echoes. `exit N` ends it with that code; `many` prints a megabyte; after `deaf` nothing is taken."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.typed = b""
        self.closed = asyncio.Event()
        self._printed: asyncio.Queue[bytes] = asyncio.Queue()
        self._code = 0
        self._deaf = False

    async def read(self, most: int) -> bytes:
        return (await self._printed.get())[:most]

    async def write(self, data: bytes) -> None:
        if self._deaf:
            await self.closed.wait()
        self.typed += data
        self._deaf = data == b"deaf"
        if data == b"many":
            for _ in range(32):
                self._printed.put_nowait(bytes(32 * 1024))
        elif data.startswith(b"exit "):
            self._code = int(data[5:])
            self._printed.put_nowait(b"")
        else:
            self._printed.put_nowait(data)

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        return self._code

    async def close(self) -> None:
        self.closed.set()


class FakeFiles(Files):
    """Files by path; there are no directories."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    async def stat(self, path: str) -> FileInfo:
        if path not in self.files:
            raise NotFound(f"there is no file {path}")
        return FileInfo(name=path.rpartition("/")[2], kind="file", size=len(self.files[path]))

    async def list(self, path: str) -> Sequence[FileInfo]:
        return [await self.stat(name) for name in sorted(self.files) if name.startswith(path)]

    async def read(self, path: str) -> AsyncIterator[bytes]:
        await self.stat(path)
        for at in range(0, len(self.files[path]), 100_000):
            yield self.files[path][at : at + 100_000]

    async def write(self, path: str, data: AsyncIterator[bytes], size: int, mode: int | None = None) -> None:
        self.files[path] = b"".join([piece async for piece in data])

    async def mkdir(self, path: str) -> None:
        raise Invalid("there are no directories", field="path", value=path)

    async def rename(self, path: str, to: str) -> None:
        await self.stat(path)
        self.files[to] = self.files.pop(path)

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        await self.stat(path)
        del self.files[path]


@dataclass(kw_only=True)
class Room:
    """One environment container."""

    base: str
    origin: str
    running: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    terminals: list[FakeTerminal] = field(default_factory=list)


class Rooms(Environments):
    """The environment containers of one builder. `before` is awaited before each commit, build and take."""

    def __init__(self, images: LocalImages) -> None:
        self.images = images
        self.rooms: dict[str, Room] = {}
        self.swept: list[Mapping[str, Version]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.waiting = asyncio.Event()

    async def list(self) -> Sequence[EnvironmentContainer]:
        return [self._told(name) for name in sorted(self.rooms)]

    async def create(self, name: str, image: Image, origin: str, progress: Progress) -> EnvironmentContainer:
        if name in self.rooms:
            raise Conflict(f"there is a container {name}", field="name", value=name)
        self.rooms[name] = Room(base=image.digest or image.reference or "", origin=origin)
        return self._told(name)

    async def start(self, name: str) -> None:
        self._room(name).running = True

    async def stop(self, name: str) -> None:
        self._room(name).running = False

    async def delete(self, name: str) -> None:
        self._room(name)
        del self.rooms[name]

    async def commit(self, name: str, *, force: bool, progress: Progress) -> Package:
        room = self._room(name)
        progress("committing")
        await self._wait()
        return self.images.add(*[path.encode() + b"=" + data for path, data in room.files.items()], name=name)

    async def settle(self, name: str, version: Version) -> None:
        self._room(name).base = version.digest
        self.images.versions[version.digest] = version.environment, version.number

    async def sweep(self, known: Mapping[str, Version]) -> None:
        self.swept.append(known)

    async def shell(
        self, name: str, argv: Sequence[str], *, columns: int, rows: int, env: Mapping[str, str]
    ) -> Terminal:
        terminal = FakeTerminal()
        await terminal.resize(columns, rows)
        self._room(name).terminals.append(terminal)
        return terminal

    def files(self, name: str) -> Files:
        return FakeFiles(self._room(name).files)

    async def build(self, context: Path, dockerfile: str, progress: Progress) -> Package:
        progress(f"step 1 of {dockerfile}")
        await self._wait()
        return self.images.add(await asyncio.to_thread(context.read_bytes))

    async def take(self, archive: Path, progress: Progress) -> Package:
        data = await asyncio.to_thread(archive.read_bytes)
        if not data:
            raise Invalid("the archive is empty")
        await self._wait()
        return self.images.add(data)

    async def _wait(self) -> None:
        self.waiting.set()
        await self.go.wait()

    def _room(self, name: str) -> Room:
        if name not in self.rooms:
            raise NotFound(f"there is no container {name}")
        return self.rooms[name]

    def _told(self, name: str) -> EnvironmentContainer:
        room = self._room(name)
        state = "running" if room.running else "stopped"
        return EnvironmentContainer(name=name, state=state, base=room.base, origin=room.origin)  # type: ignore[arg-type]


class Medium:
    """What lies between builder and nodes: versions by digest."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[Stored, Package, Mapping[str, bytes]]] = {}
        #: what each fetch was asked to bring, as layers
        self.fetches: list[Collection[str]] = []
        #: raised by the next fetches, in order
        self.errors: list[Exception] = []
        #: fetches wait here
        self.go = asyncio.Event()
        self.go.set()
        #: set when a fetch waits
        self.waiting = asyncio.Event()
        self.cancelled = 0

    def add(self, package: Package, contents: Mapping[str, bytes], environment: str, number: int) -> Stored:
        """A version that is there from now on."""
        version = Version(environment=environment, number=number, digest=package.digest)
        stored = Stored(version=version, locator=f"at {package.digest[:16]}", size=package.size)
        self.versions[package.digest] = stored, package, contents
        return stored


class FakeSyncer(Syncer):
    """Brings bundles from a medium in memory."""

    name: ClassVar[str] = "fake"

    def __init__(self, medium: Medium | None = None) -> None:
        self.medium = medium or Medium()

    async def open(self, ctx: SyncContext) -> None:
        self.ctx = ctx

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe(usable=True, facts={"versions": str(len(self.medium.versions))})

    async def publish(
        self, version: Version, package: Package, packages: Packages, into: Path, progress: Progress
    ) -> Stored:
        await packages.export(package, [layer.digest for layer in package.layers], into, progress)
        contents = {
            layer.digest: b"".join(bundles.unpack(bundles.blob(into, layer.digest))) for layer in package.layers
        }
        return self.medium.add(package, contents, version.environment, version.number)

    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:
        if self.medium.errors:
            raise self.medium.errors.pop(0)
        found = self.medium.versions.get(stored.version.digest)
        if found is None:
            raise PluginError(f"{stored.version.environment}:{stored.version.number} is not on the medium")
        _, package, contents = found
        lacks = held.lacks(package)
        self.medium.fetches.append([layer.digest for layer in lacks])
        progress("fetching", 0, 910_000_000)
        self.medium.waiting.set()
        try:
            await self.medium.go.wait()
        except asyncio.CancelledError:
            self.medium.cancelled += 1
            raise
        bundles.write_index(into, package)
        for layer in lacks:
            bundles.pack(into, layer.digest, [contents[layer.digest]])
        progress("fetching", 412_000_000, 910_000_000)
        return Image(kind="oci", path=into)

    async def list(self) -> Sequence[Stored]:
        return [stored for stored, _, _ in self.medium.versions.values()]

    async def remove(self, stored: Stored) -> None:
        self.medium.versions.pop(stored.version.digest, None)
