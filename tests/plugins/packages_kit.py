"""Two daemons with their own data, and images that differ by one layer."""

import asyncio
import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kohakuriver_docker.backend import DockerBackend

from kohakuriver.hooks.packages import Package
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import Dockerd

#: bytes of a layer that takes several pieces to move
LARGE = 9 << 20


@dataclass
class Told:
    """What was told of progress; `then` is called once, when something was moved under this note."""

    note: str = ""
    then: Callable[[], object] | None = None
    notes: list[str] = field(default_factory=list)
    known: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, note: str, done: int | None = None, total: int | None = None) -> None:
        self.notes.append(note)
        if done is not None and total is not None:
            self.known.append((done, total))
            if self.then is not None and note == self.note and done:
                then, self.then = self.then, None
                then()


def change(daemon: Dockerd, base: str, name: str, seed: int, size: int = 50_000) -> str:
    """An image on top of another one, with odd files and `size` random bytes; its digest."""
    words = ["create", "--network=none", base, "sh", "-c", "true"]
    container = daemon.docker(*words).strip()
    daemon.docker("cp", "-", f"{container}:/", input=_tree(seed, size))
    digest = daemon.docker("commit", container, name).strip()
    daemon.docker("rm", container)
    return digest


def _tree(seed: int, size: int) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for name, data in ((f"deep/er/{seed}", random.Random(seed).randbytes(size)), ("deep/\N{SNOWMAN}", b"x" * 700)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, kind, target in (
            ("deep/link", tarfile.SYMTYPE, "/etc"),
            ("deep/hard", tarfile.LNKTYPE, f"deep/er/{seed}"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    return found.getvalue()


async def export(backend: DockerBackend, package: Package, into: Path, layers: tuple[str, ...] | None = None) -> Path:
    """A bundle, of all layers unless some are named."""
    into.mkdir(exist_ok=True)
    digests = [layer.digest for layer in package.layers] if layers is None else layers
    await backend.packages.export(package, digests, into, Told())
    return into


def version(package: Package, path: Path, number: int = 1) -> Image:
    return Image(kind="oci", digest=package.digest, path=path, environment="my-env", number=number)


async def tidy(daemon: Dockerd) -> None:
    """Returns when the daemon holds nothing of an unfinished load or save; it clears away behind our backs."""
    folder = daemon.directory / "data/tmp"
    async with asyncio.timeout(60):
        while folder.exists() and list(folder.iterdir()):
            await asyncio.sleep(0.02)


def images(daemon: Dockerd) -> list[str]:
    return sorted(daemon.docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").split("\n"))
