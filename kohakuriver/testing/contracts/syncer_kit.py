"""What the syncer suite needs from whoever binds it to a syncer."""

import asyncio
import hashlib
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import zstandard

from kohakuriver.hooks import bundles
from kohakuriver.hooks.context import Done
from kohakuriver.hooks.packages import Held, Package, Packages, Stored
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Image
from kohakuriver.testing.syncing import FakeBlobs, FakePackages, Steps

Spoil = Callable[[Stored], Awaitable[None]]


class SyncerKit(ABC):
    """A builder with some images, a medium, and nodes. `open` may be used again and again, also for several at once."""

    #: False where only the host knows what lies on the medium
    lists = True

    def __init__(self, directory: Path) -> None:
        """`directory` is the test's own and empty. For a syncer that uses `Packages.push`, give `packages` one."""
        self.directory = directory
        self.steps = Steps()
        self.blobs = FakeBlobs(directory / "blobs", self.steps)
        self.packages = FakePackages(self.steps)
        self._count = 0

    @abstractmethod
    def open(self, node: str = "builder") -> AbstractAsyncContextManager[Syncer]:
        """A syncer that is open on this node; each time is a restart of its runner."""

    @property
    def watched(self) -> Collection[Path]:
        """Directories of the medium: each change in them is a step at which a process may die."""
        return ()

    async def leftovers(self, known: Collection[Stored]) -> Collection[str]:
        """What lies on the medium and belongs to none of these versions, as words."""
        return ()

    def spoilings(self) -> Mapping[str, Spoil]:
        """Ways in which somebody damages a version on the medium, by name."""
        return {}

    async def foreign(self) -> Stored | None:
        """A version of another system that lies on the medium; None where there can be none."""
        return None

    async def check(self, image: Image, package: Package, held: Held) -> None:
        """Fails unless the backend of a node that holds this can make the image out of what it was given."""
        assert image.digest == package.digest
        assert image.path is not None, "a reference: the kit has to fetch it"
        if image.path.is_dir():
            assert bundles.read_index(image.path) == package
            for layer in held.lacks(package):
                bundles.verify(bundles.blob(image.path, layer.digest), layer.digest, layer.size)
        else:
            found = await asyncio.to_thread(archived, image.path)
            assert found == (package.config, [layer.digest for layer in package.layers])

    def folder(self, name: str = "") -> Path:
        """A new folder for `into`, or the same again by its name."""
        self._count += not name
        path = self.directory / (name or f"into{self._count}")
        path.mkdir(exist_ok=True)
        return path

    def context(self, node: str, config: Mapping[str, Any]) -> SyncContext:
        """The surroundings of a syncer on this node."""
        state = self.directory / f"state-{node}"
        state.mkdir(exist_ok=True, mode=0o700)
        return SyncContext(
            cluster="7100",
            node=node,
            state=state,
            config=config,
            blobs=self.blobs,
            run=no_command,
            in_thread=asyncio.to_thread,
        )

    @property
    def images(self) -> Packages:
        """The builder's images, as a syncer sees them."""
        return self.packages


async def no_command(*_: object, **__: object) -> Done:
    """Of helper programs there are none here."""
    return Done(code=127, stdout=b"", stderr=b"no such program")


def archived(path: Path) -> tuple[bytes, list[str]]:
    """The configuration and the digests of the layers in an archive as `docker save` writes it."""
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as content,
        tarfile.open(fileobj=content, mode="r|") as tar,
    ):
        members = {member.name: _bytes(tar, member) for member in tar}
    (image,) = json.loads(members["manifest.json"])
    layers = [f"sha256:{hashlib.sha256(members[name]).hexdigest()}" for name in image["Layers"]]
    return members[image["Config"]], layers


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()
