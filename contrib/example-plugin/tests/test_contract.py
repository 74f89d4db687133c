"""The example keeps every rule of the contract that KohakuRiver ships as a test suite."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from kohakuriver.hooks.context import Context, Done
from kohakuriver.hooks.values import Grant, Handle, Image, Job, Mount, Net
from kohakuriver.testing.contracts.backend import BackendContract
from kohakuriver.testing.contracts.kit import BackendKit

from kohakuriver_example.backend import ExampleBackend

MARK = "EXAMPLE_TEST"


async def run(argv, *, limit: float, input: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    async with asyncio.timeout(limit):
        stdout, stderr = await process.communicate(input)
    return Done(code=process.returncode or 0, stdout=stdout, stderr=stderr)


class ExampleKit(BackendKit):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[ExampleBackend]:
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        backend = ExampleBackend()
        await backend.open(Context(cluster="c", node="n", boot="b", state=state, run=run, in_thread=asyncio.to_thread))
        yield backend
        await backend.close()

    def job(self, argv: tuple[str, ...], **fields: Any) -> Job:
        """Its processes are known by a variable."""
        job = super().job(argv, **fields)
        return replace(job, env={**job.env, MARK: f"{os.getpid()}.{job.instance}"})

    async def processes(self, job: Job) -> int:
        found = psutil.process_iter(["environ", "status"])
        alive = (process.info for process in found if process.info["status"] != psutil.STATUS_ZOMBIE)
        return sum((info["environ"] or {}).get(MARK) == job.env[MARK] for info in alive)

    async def occupy(self, job: Job) -> None:
        async with self.open() as backend:
            await backend.create(replace(job, directory=self.directory / "elsewhere"))

    def impossible(self) -> Mapping[str, Any]:
        return {
            "image": Image(kind="oci"),
            "mounts": (Mount(source=Path("/tmp"), target="/data"),),
            "persistent": True,
            "net": Net(mode="private"),
            "user": "somebody-else",
            "argv": (),
            "grant": Grant(memory=1 << 30),
        }

    def traces(self, handle: Handle) -> list[str]:
        return [str(path) for path in (self.directory / "state").iterdir()]


class TestExample(BackendContract):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> ExampleKit:
        return ExampleKit(tmp_path)
