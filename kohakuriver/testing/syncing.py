"""What a syncer works with, for tests of syncers: images made of nothing, a backend's packages, the host's blob store.

All of it counts what was moved, and can be cut off at any step: `Steps` says where.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from kohakuriver.errors import NotFound, PluginError, Unreachable
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Held, HeldImage, Layer, Package, chain

PIECE = 16 * 1024
Push = Callable[[Package, Mapping[str, bytes], str, str | None], Awaitable[str]]


class Died(OSError):
    """Everything after the step at which a process died fails, its cleaning up too."""


#: what changes a directory, as the interpreter's audit events are called (Python library, "Audit events table")
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.link", "os.symlink", "os.truncate"}


class _Watched:
    """An audit hook cannot be removed: there is one, and it asks here."""

    hooked = False
    folders: ClassVar[dict[str, "Steps"]] = {}

    @classmethod
    def see(cls, event: str, args: tuple[object, ...]) -> None:
        if not cls.folders or not args or not isinstance(args[0], str | bytes | os.PathLike):
            return
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            path = os.fsdecode(args[0])
            for folder, steps in tuple(cls.folders.items()):
                if path.startswith(folder):
                    steps.take(f"{event} {path.removeprefix(folder)}")


class Steps:
    """Counts the steps of a test's world, and ends or interrupts the process under test at one of them."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._die_at: int | None = None
        self._interrupt_at: int | None = None
        self._interrupt: Callable[[], object] = int

    def die(self, at: int) -> None:
        """From the step with this number (0 is the next) on nothing works, until `live`."""
        self.live()
        self._die_at = at

    def interrupt(self, at: int, call: Callable[[], object]) -> None:
        """Before the step with this number, calls something once, such as a task's cancel."""
        self.live()
        self._interrupt_at, self._interrupt = at, call

    def live(self) -> None:
        """All works, and counting begins anew."""
        self.taken, self._die_at, self._interrupt_at = [], None, None

    @contextmanager
    def watching(self, *folders: Path) -> Iterator[None]:
        """Every change in these folders is a step as well."""
        if not _Watched.hooked:
            _Watched.hooked = True
            sys.addaudithook(_Watched.see)
        own = {f"{folder}/": self for folder in folders}
        _Watched.folders.update(own)
        try:
            yield
        finally:
            for folder in own:
                _Watched.folders.pop(folder, None)

    def take(self, name: str) -> None:
        """A step is about to be made; may be called in any thread. Raises Died."""
        at = len(self.taken)
        self.taken.append(name)
        if self._die_at is not None and at >= self._die_at:
            raise Died(5, f"died at step {at}, {name}")
        if at == self._interrupt_at:
            self._interrupt()


def silent(note: str, done: int | None = None, total: int | None = None) -> None:
    """A progress that nobody sees."""


def make_image(*layers: bytes, **labels: str) -> tuple[Package, Mapping[str, bytes]]:
    """A package with these contents as layers, and the contents by digest. Layers need not be tars."""
    contents = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in layers}
    order = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": order},
        }
    ).encode()
    package = Package(
        digest=f"sha256:{hashlib.sha256(config).hexdigest()}",
        config=config,
        layers=tuple(Layer(digest=digest, size=len(contents[digest])) for digest in order),
    )
    return package, contents


class FakePackages:
    """A backend's images, without an engine. `exported` names every layer that was asked for."""

    def __init__(self, steps: Steps | None = None, push: Push | None = None) -> None:
        """`push` really pushes; without one the backend knows no registry."""
        self.images: dict[str, tuple[Package, Mapping[str, bytes]]] = {}
        self.exported: list[str] = []
        self._steps = steps or Steps()
        self._push = push

    def add(self, *layers: bytes, **labels: str) -> Package:
        """An image that is here from now on."""
        package, contents = make_image(*layers, **labels)
        self.images[package.digest] = package, contents
        return package

    async def held(self) -> Held:
        chains = {name for package, _ in self.images.values() for name in package.chains}
        return Held(images={digest: HeldImage(digest=digest) for digest in self.images}, chains=frozenset(chains))

    async def describe(self, image: str) -> Package:
        if image not in self.images:
            raise NotFound(f"there is no image {image}")
        return self.images[image][0]

    async def export(self, package: Package, layers: Collection[str], into: Path, progress: Progress) -> None:
        contents = self.images[package.digest][1]
        for digest in layers:
            self._steps.take("export a layer")
            self.exported.append(digest)
            await asyncio.to_thread(bundles.pack, into, digest, [contents[digest]])
            progress("exporting")
        self._steps.take("export the index")
        await asyncio.to_thread(bundles.write_index, into, package)

    async def push(self, digest: str, reference: str, auth: str | None, progress: Progress) -> str:
        if self._push is None:
            raise PluginError("this backend cannot push")
        self._steps.take("push")
        package, contents = self.images[digest]
        progress(f"pushing {reference}", 0, package.size)
        return await self._push(package, contents, reference, auth)

    async def drop(self, digest: str) -> bool:
        return self.images.pop(digest, None) is not None


class FakeBlobs:
    """The host's store of contents in a folder. `sent` and `received` count bytes as they go over the wire."""

    def __init__(self, folder: Path, steps: Steps | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.sent = self.received = 0
        #: the next download ends after so many bytes
        self.cut_after: int | None = None
        self._steps = steps or Steps()

    @property
    def digests(self) -> frozenset[str]:
        """What is stored."""
        return frozenset(f"sha256:{path.stem}" for path in self.folder.glob("*.zst"))

    async def missing(self, digests: Collection[str]) -> frozenset[str]:
        self._steps.take("ask for what is missing")
        return frozenset(digests) - self.digests

    async def put(self, digest: str, path: Path, progress: Progress) -> None:
        self._steps.take("upload")
        place = bundles.blob(self.folder, digest)
        if place.exists():
            return
        await asyncio.to_thread(bundles.verify, path, digest)
        await asyncio.sleep(0)
        part = place.with_suffix(".part")
        shutil.copyfile(path, part)
        part.rename(place)
        self.received += place.stat().st_size
        progress("uploading", place.stat().st_size, place.stat().st_size)

    async def get(self, digest: str, into: Path, progress: Progress) -> None:
        self._steps.take("download")
        place = bundles.blob(self.folder, digest)
        if not place.exists():
            raise NotFound(f"there is no content {digest}")
        part = into.with_suffix(".part")
        with part.open("ab") as file:
            for piece in _pieces(place.read_bytes()[file.tell() :]):
                self._steps.take("receive")
                await asyncio.sleep(0)
                if self.cut_after is not None and self.sent + len(piece) > self.cut_after:
                    self.cut_after = None
                    raise Unreachable("the connection was cut")
                file.write(piece)
                self.sent += len(piece)
                progress("downloading", file.tell(), place.stat().st_size)
        try:
            await asyncio.to_thread(bundles.verify, part, digest)
        except PluginError:
            part.unlink()
            raise
        part.rename(into)


def _pieces(data: bytes) -> Sequence[bytes]:
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


def chains_below(package: Package, count: int) -> frozenset[str]:
    """What a node holds that has the lowest `count` layers of it."""
    found: list[str] = []
    for layer in package.layers[:count]:
        found.append(chain(found[-1] if found else None, layer.digest))
    return frozenset(found)
