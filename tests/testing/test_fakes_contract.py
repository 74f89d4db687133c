"""The well-behaved fake keeps the contract, so that tests with it say something about real backends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Device, Grant, Job
from kohakuriver.testing.contracts.backend import BackendContract
from kohakuriver.testing.contracts.kit import BackendKit, Programs
from kohakuriver.testing.fakes import FakeBackend, World


class FakePrograms(Programs):
    def say(self, stdout: bytes = b"", stderr: bytes = b"", code: int = 0) -> tuple[str, ...]:
        return ("say", stdout.hex(), stderr.hex(), str(code))

    def sleep(self) -> tuple[str, ...]:
        return ("sleep",)

    def stubborn(self) -> tuple[str, ...]:
        return ("stubborn",)

    def leaves_behind(self, code: int) -> tuple[str, ...]:
        return ("say", "", "", str(code))

    def die(self, signal: int) -> tuple[str, ...]:
        return ("die", str(signal))

    def count(self, last: int) -> tuple[str, ...]:
        return ("count", str(last))

    def missing(self) -> tuple[str, ...]:
        return ("missing",)

    def variable(self, name: str) -> tuple[str, ...]:
        return ("variable", name)


class FakeKit(BackendKit):
    programs = FakePrograms()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.world = World()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Backend]:
        yield FakeBackend(self.world)

    async def processes(self, job: Job) -> int:
        body = self.world.bodies.get(job.instance)
        return 1 if body is not None and body.going else 0

    async def occupy(self, job: Job) -> None:
        await FakeBackend(self.world).create(replace(job, directory=Path("/somewhere/else")))

    def impossible(self):
        return {"grant": Grant(devices=(Device(id="0000:01:00.0"),))}


class TestFake(BackendContract):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> FakeKit:
        return FakeKit(tmp_path)
