"""The contract of syncers, bound to each of ours."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kohakuriver_direct.syncer import DirectSyncer

from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Stored
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.testing.contracts.syncer import SyncerContract
from kohakuriver.testing.contracts.syncer_kit import SyncerKit

from .nfs_kit import NfsKit
from .oci_registry import OciRegistry, a_registry, why_not
from .registry_kit import RegistryKit


class DirectKit(SyncerKit):
    lists = False

    @asynccontextmanager
    async def open(self, node: str = "builder") -> AsyncIterator[Syncer]:
        syncer = DirectSyncer()
        await syncer.open(self.context(node, {}))
        try:
            yield syncer
        finally:
            await syncer.close()

    def spoilings(self):
        async def lose_layer(stored: Stored) -> None:
            bundles.blob(self.blobs.folder, stored.blobs[0]).unlink()

        async def damage_layer(stored: Stored) -> None:
            path = bundles.blob(self.blobs.folder, stored.blobs[1])
            path.write_bytes(path.read_bytes()[:-5])

        async def lose_index(stored: Stored) -> None:
            bundles.blob(self.blobs.folder, stored.locator).unlink()

        async def swap_index(stored: Stored) -> None:
            place = bundles.blob(self.blobs.folder, stored.locator)
            place.write_bytes(bundles.blob(self.blobs.folder, stored.version.digest).read_bytes())

        return {"damaged": damage_layer, "lost": lose_layer, "no index": lose_index, "swapped": swap_index}


class TestDirect(SyncerContract):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> DirectKit:
        return DirectKit(tmp_path)


class TestNfs(SyncerContract):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> NfsKit:
        return NfsKit(tmp_path)


@pytest.fixture(scope="module")
def oci(tmp_path_factory) -> Iterator[OciRegistry]:
    if reason := why_not():
        pytest.skip(reason)
    with a_registry(tmp_path_factory.mktemp("oci"), sign_in=True) as registry:
        yield registry


class TestRegistry(SyncerContract):
    @pytest.fixture
    def kit(self, tmp_path: Path, oci: OciRegistry) -> RegistryKit:
        return RegistryKit(tmp_path, oci)
