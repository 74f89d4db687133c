"""The docker backend against a daemon of the test's own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kohakuriver_docker.backend import DockerBackend
from kohakuriver_docker.names import Names

from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Device, Grant, Handle, Image, Job, Net
from kohakuriver.net.process import run_command
from kohakuriver.testing.contracts.backend import collect
from kohakuriver.testing.contracts.kit import BackendKit
from kohakuriver.testing.dockerd import IMAGE, Dockerd

KITS = itertools.count(1)


class DockerKit(BackendKit):
    packaged = IMAGE

    def __init__(self, directory: Path, dockerd: Dockerd, *, node: str = "n", **config: object) -> None:
        super().__init__(directory)
        self._count = next(KITS) * 1000  # the daemon is everybody's, and a stranger's container stays
        self.dockerd = dockerd
        self.state = directory / f"state-{node}"
        self.state.mkdir(mode=0o700)
        self.config = {"socket": str(dockerd.socket), "network": "none", **config}
        self.node = node

    def context(self) -> Context:
        return Context(
            cluster="c",
            node=self.node,
            boot="b",
            state=self.state,
            config=self.config,
            run=run_command,
            in_thread=asyncio.to_thread,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DockerBackend]:
        backend = DockerBackend()
        await backend.open(self.context())
        try:
            yield backend
        finally:
            await backend.close()

    def job(self, argv: tuple[str, ...], **fields: object) -> Job:
        fields.setdefault("image", Image(kind="oci", reference=IMAGE))
        return super().job(argv, **fields)

    def name(self, job: Job) -> str:
        return Names(self.context()).container(job.instance)

    async def processes(self, job: Job) -> int:
        listed = self.dockerd.docker("ps", "-aq", "--no-trunc", "--filter", f"name=^{self.name(job)}$").split()
        return sum(len(processes_of(container)) for container in listed)

    async def processes_left(self, handle: Handle) -> int:
        """As `processes`, without the daemon's help."""
        return len(processes_of(handle.data["container"]))

    async def occupy(self, job: Job) -> None:
        self.dockerd.docker("create", "--name", self.name(job), IMAGE, "true")

    def impossible(self):
        return {
            "image": Image(kind="oci", reference="-v"),
            "persistent": True,
            "net": Net(mode="overlay"),
            "argv": (),
            "grant": Grant(devices=(Device(id="0000:01:00.0", uuid="GPU-1"),)),
        }

    def traces(self, handle: Handle) -> list[str]:
        left = self.dockerd.docker("ps", "-aq", "--no-trunc").split()
        return [name for name in left if name == handle.data["container"]] + [
            str(path) for path in (self.state / "begins").glob("*")
        ]


def processes_of(container: str) -> list[int]:
    """Living processes in the container's control group, as the machine sees them."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            group, stat = (folder / "cgroup").read_text(), (folder / "stat").read_text()
        except OSError:
            continue
        if container in group and stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(int(folder.name))
    return found


async def begin(backend: DockerBackend, job: Job) -> tuple[Handle, str]:
    assert list(await backend.check(job)) == []
    handle = await backend.create(job)
    return handle, await backend.start(handle, job)


async def run(backend: DockerBackend, job: Job):
    """The end and the output of a job."""
    handle, started = await begin(backend, job)
    found = await collect(backend, handle, started)
    return await backend.wait(handle, started), found
