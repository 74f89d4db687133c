"""Environment containers of a real daemon, and what images are made of without the code under test."""

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kohakuriver_docker.environments import DockerEnvironments
from kohakuriver_docker.names import Names

from kohakuriver.hooks.environments import Terminal
from kohakuriver.hooks.packages import Layer, Package, Version
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE, Dockerd

from .docker_kit import DockerKit

LIMIT = 25
IMAGE_OF_TESTS = Image(kind="oci", reference=IMAGE)


class Saved:
    """Describes images by `docker save`."""

    def __init__(self, dockerd: Dockerd) -> None:
        self._dockerd = dockerd

    async def describe(self, image: str) -> Package:
        return await asyncio.to_thread(self._describe, image)

    def _describe(self, image: str) -> Package:
        path = self._dockerd.directory / "saved.tar"
        self._dockerd.docker("save", "-o", str(path), image)
        with tarfile.open(path) as tar:
            item = json.load(tar.extractfile("manifest.json"))[0]
            config = tar.extractfile(item["Config"]).read()
            sizes = [tar.getmember(_followed(tar, name)).size for name in item["Layers"]]
        path.unlink()
        digests = json.loads(config)["rootfs"]["diff_ids"]
        return Package(
            digest="sha256:" + hashlib.sha256(config).hexdigest(),
            config=config,
            layers=tuple(Layer(digest=digest, size=size) for digest, size in zip(digests, sizes, strict=True)),
        )


def _followed(tar: tarfile.TarFile, name: str) -> str:
    member = tar.getmember(name)
    return member.linkname.removeprefix("../") if member.issym() else name


class EnvironmentsKit(DockerKit):
    @asynccontextmanager
    async def environments(self) -> AsyncIterator[DockerEnvironments]:
        """A life of the runner."""
        async with self.open() as backend:
            yield DockerEnvironments(
                backend._engine,
                backend._names,
                backend._settings,
                self.context(),
                network=backend._bodies.network,
                packages=Saved(self.dockerd),
            )

    def ours(self, name: str) -> list[str]:
        """Names of the containers of an environment."""
        listed = self.dockerd.docker("ps", "-a", "--format", "{{.Names}}").split()
        return [one for one in listed if one.startswith("kr-env-") and name in one]

    def inside(self, name: str, *words: str, input: bytes = b"") -> str:
        """What a program in the container prints."""
        (container,) = self.ours(name)
        return self.dockerd.docker("exec", "-i", container, *words, input=input)

    def inspect(self, name: str) -> dict:
        (container,) = self.ours(name)
        return json.loads(self.dockerd.docker("inspect", container))[0]

    def images(self) -> set[str]:
        return set(self.dockerd.docker("images", "-q", "--no-trunc", "--all").split())

    def pending(self) -> list[str]:
        """Names of images of this runner that are no version yet."""
        return self._named(Names(self.context()).pending())

    def tidy(self) -> None:
        """Takes away all names that environments left."""
        for name in self._named(Names(self.context()).images):
            self.dockerd.docker("rmi", name)

    def _named(self, begin: str) -> list[str]:
        listed = self.dockerd.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        return [one for one in listed if one.startswith(begin)]


@asynccontextmanager
async def tidied(kit: EnvironmentsKit) -> AsyncIterator[DockerEnvironments]:
    """A life that leaves nothing."""
    async with kit.environments() as opened, asyncio.timeout(LIMIT):
        yield opened
        for one in await opened.list():
            await opened.delete(one.name)
        kit.tidy()


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, note: str, done: int | None = None, total: int | None = None) -> None:
        self.notes.append(note)


async def read_until(terminal: Terminal, wanted: bytes) -> bytes:
    """All that is printed up to these bytes."""
    found = b""
    while wanted not in found:
        data = await terminal.read(65536)
        assert data, found
        found += data
    return found


async def read_all(terminal: Terminal) -> bytes:
    found = b""
    while data := await terminal.read(65536):
        found += data
    return found


def version(environment: str, number: int, package: Package) -> Version:
    return Version(environment=environment, number=number, digest=package.digest)


def tar_of(files: dict[str, bytes]) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return found.getvalue()


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
