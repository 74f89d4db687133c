"""The example's syncer keeps every rule of the contract that KohakuRiver ships as a test suite."""

import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Stored
from kohakuriver.testing.contracts.syncer import SyncerContract
from kohakuriver.testing.contracts.syncer_kit import Spoil, SyncerKit

from kohakuriver_example.syncer import ExampleSyncer


class ExampleKit(SyncerKit):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.medium = directory / "medium"
        self.medium.mkdir()

    @property
    def watched(self) -> Collection[Path]:
        return (self.medium,)

    @asynccontextmanager
    async def open(self, node: str = "builder") -> AsyncIterator[ExampleSyncer]:
        syncer = ExampleSyncer()
        await syncer.open(self.context(node, {"folder": self.medium}))
        yield syncer
        await syncer.close()

    async def leftovers(self, known: Collection[Stored]) -> Collection[str]:
        return {path.name for path in self.medium.iterdir()} - {stored.locator for stored in known}

    def spoilings(self) -> Mapping[str, Spoil]:
        async def lose(stored: Stored) -> None:
            shutil.rmtree(self.medium / stored.locator)

        async def cut(stored: Stored) -> None:
            for path in (self.medium / stored.locator).glob("*.zst"):
                path.write_bytes(path.read_bytes()[:-5])

        async def swap(stored: Stored) -> None:
            shutil.copytree(next(self.medium.glob("my-env@1@*")), self.medium / stored.locator, dirs_exist_ok=True)

        async def half(stored: Stored) -> None:
            (self.medium / stored.locator / bundles.INDEX).unlink()

        return {"gone": lose, "cut off": cut, "swapped": swap, "half": half}


class TestExampleSyncer(SyncerContract):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> ExampleKit:
        return ExampleKit(tmp_path)
