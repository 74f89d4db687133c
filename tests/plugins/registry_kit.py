"""A registry for tests of the `registry` syncer; each test has a part of it of its own."""

import gzip
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
from kohakuriver_registry.syncer import RegistrySyncer

from kohakuriver.hooks.packages import Held, Package, Stored
from kohakuriver.hooks.values import Image
from kohakuriver.testing.contracts.syncer_kit import SyncerKit
from kohakuriver.testing.syncing import FakePackages

from .oci_registry import MANIFEST, PASSWORD, USER, OciRegistry, pusher, signed


class RegistryKit(SyncerKit):
    """Its builder pushes by HTTP itself, and its nodes pull so."""

    def __init__(self, directory: Path, registry: OciRegistry) -> None:
        super().__init__(directory)
        self.packages = FakePackages(self.steps, pusher(self.steps.take))
        self.registry = registry
        self.repository = f"{registry.host}/lab/{uuid4().hex}"
        self.config = {"repository": self.repository, "docker_config": str(directory / "none.json")}
        if registry.signed_in:
            (directory / "password").write_text(f"{PASSWORD}\n")
            self.config |= {"username": USER, "password_file": str(directory / "password")}

    @asynccontextmanager
    async def open(self, node: str = "builder") -> AsyncIterator[RegistrySyncer]:
        syncer = RegistrySyncer()
        await syncer.open(self.context(node, self.config))
        try:
            yield syncer
        finally:
            await syncer.close()

    async def leftovers(self, known: Collection[Stored]) -> Collection[str]:
        async with self.open() as syncer:
            listed = {one.locator for one in await syncer.list()}
        return sorted(listed - {one.locator for one in known})

    def spoilings(self):
        async def lose(stored: Stored) -> None:
            async with self.open() as syncer:
                await syncer.remove(stored)

        async def damage(stored: Stored) -> None:
            self.registry.blob(stored.locator.partition("@")[2]).write_bytes(b"{}")

        return {"gone": lose, "damaged": damage}

    async def check(self, image: Image, package: Package, held: Held) -> None:
        """What the engine would fetch: configuration and layers are those of the image."""
        assert image.digest == package.digest
        assert (image.auth is not None) == self.registry.signed_in
        host, _, rest = (image.reference or "").partition("/")
        name, _, digest = rest.partition("@")
        headers = signed(self.registry.signed_in)
        async with aiohttp.ClientSession(
            f"http://{host}/v2/{name}/", headers=headers, raise_for_status=True
        ) as session:
            async with session.get(f"manifests/{digest}", headers={"Accept": MANIFEST}) as answer:
                manifest = await answer.json(content_type=None)
            async with session.get(f"blobs/{manifest['config']['digest']}") as answer:
                assert await answer.read() == package.config
            for layer, part in zip(package.layers, manifest["layers"], strict=True):
                async with session.get(f"blobs/{part['digest']}") as answer:
                    data = gzip.decompress(await answer.read())
                assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.digest
