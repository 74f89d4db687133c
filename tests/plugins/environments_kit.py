"""Environment containers of a real daemon, and what is there of them without the code under test."""

import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kohakuriver_docker.environments import DockerEnvironments
from kohakuriver_docker.names import Names

from kohakuriver.hooks.environments import Terminal
from kohakuriver.hooks.packages import Package, Version
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE

from .docker_kit import DockerKit

IMAGE_OF_TESTS = Image(kind="oci", reference=IMAGE)


class EnvironmentsKit(DockerKit):
    @asynccontextmanager
    async def environments(self) -> AsyncIterator[DockerEnvironments]:
        """A life of the runner."""
        async with self.open() as backend:
            yield backend.environments

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
    async with kit.environments() as opened:
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
