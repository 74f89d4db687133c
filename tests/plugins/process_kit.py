"""The process backend on this machine, for its tests."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kohakuriver_process import means
from kohakuriver_process.backend import ProcessBackend
from kohakuriver_process.limits import Unavailable
from kohakuriver_process.shepherd import tree

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Device, Grant, Handle, Image, Job, Mount, Net
from kohakuriver.net.process import run_command
from kohakuriver.testing.contracts.backend import collect
from kohakuriver.testing.contracts.kit import BackendKit

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def usable_modes() -> list[str]:
    """Every means of limiting that this machine has."""
    found = []
    for name, find in means.FINDERS.items():
        try:
            find()
        except Unavailable:
            continue
        found.append(name)
    return [*found, "rlimits", "none"]


MODES = usable_modes()


class ProcessKit(BackendKit):
    def __init__(self, directory: Path, **config: object) -> None:
        super().__init__(directory)
        self._count = 1000 * os.getpid()  # others test on the same machine, and processes are counted by their mark
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.config = {"enabled": True, "idle_seconds": 0.2, **config}
        self.boot = BOOT

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ProcessBackend]:
        backend = ProcessBackend()
        await backend.open(
            Context(
                cluster="c",
                node="n",
                boot=self.boot,
                state=self.state,
                config=self.config,
                run=run_command,
                in_thread=asyncio.to_thread,
            )
        )
        try:
            yield backend
        finally:
            await backend.close()

    async def processes(self, job: Job) -> int:
        return len(marked(job))

    async def occupy(self, job: Job) -> None:
        async with self.open() as backend:
            await backend.create(replace(job, directory=self.elsewhere(job)))

    def elsewhere(self, job: Job) -> Path:
        path = self.directory / "elsewhere" / job.instance
        path.mkdir(parents=True)
        return path

    def impossible(self):
        return {
            "image": Image(kind="oci", digest="sha256:0"),
            "persistent": True,
            "mounts": (Mount(source=Path("/tmp"), target="/data"),),
            "net": Net(mode="private"),
            "user": "somebody-else",
            "argv": (),
            "grant": Grant(devices=(Device(id="0000:01:00.0"),)),
        }

    def traces(self, handle) -> list[str]:
        name = f"{handle.data['shepherd']}.{handle.data['instance']}"
        groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/kohakuriver/{name}")]
        return groups + [str(path) for path in (self.state / "bodies").iterdir()]


def marked(job: Job) -> list[int]:
    """The living processes that carry the attempt's mark or that a marked one is the parent of."""
    table = tree.everything()
    roots = [pid for pid in table if tree.marks(pid, ["KOHAKURIVER_ATTEMPT"]).get("KOHAKURIVER_ATTEMPT") == job.attempt]
    shepherds = {pid for pid in roots if table[pid].parent == os.getpid()}
    return [
        process.pid
        for process in tree.below(roots, table)
        if process.state not in "ZX" and process.pid not in shepherds
    ]


def backend_of(backend: Backend) -> ProcessBackend:
    assert isinstance(backend, ProcessBackend)
    return backend


CAGED = [mode for mode in MODES if mode in ("cgroup1", "cgroup2", "systemd")]
#: the same as parameters; without any, one that is skipped
CAGES = CAGED or [
    pytest.param("none", marks=pytest.mark.skip(reason="needs a tree of cgroup version 2 to write")),
]
PYTHON = sys.executable


async def begin(backend: ProcessBackend, job: Job) -> tuple[Handle, str]:
    assert list(await backend.check(job)) == []
    handle = await backend.create(job)
    return handle, await backend.start(handle, job)


async def finish(backend: ProcessBackend, job: Job):
    handle, run = await begin(backend, job)
    return await backend.wait(handle, run), await collect(backend, handle, run)


def shepherd_of(backend: ProcessBackend) -> int:
    return int(backend._client.hello["pid"])


async def end(pid: int) -> None:
    """Kills a process and returns when it is gone."""
    fd = os.pidfd_open(pid)
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(fd, lambda: over.done() or over.set_result(None))
    os.kill(pid, signal.SIGKILL)
    await over
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)
