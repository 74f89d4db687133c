"""Versions straight from the host: contents by digest, over the node's own connection. Knows no engine.

A version is three kinds of contents of the host's store: its layers, its configuration, and an index that names both.
The index comes last; its digest is the locator.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from kohakuriver.errors import NotFound, PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import DIGEST, Held, Layer, Package, Packages, Stored, Version
from kohakuriver.hooks.room import need_room
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Image, Probe
from kohakuriver_direct import config
from kohakuriver_direct.progress import Sum

#: what backends that take bundles say in `Features.images`
KIND = "oci"
Item = TypeVar("Item")


class DirectSyncer(Syncer):
    """Needs nothing but the link to the host."""

    name = "direct"

    async def open(self, ctx: SyncContext) -> None:
        self._ctx = ctx
        self._settings = config.read(ctx.config)

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        if not self._settings.enabled:
            return Probe(usable=False, problems=("switched off: [plugins.direct] enabled = false",))
        return Probe(usable=True)

    async def publish(
        self, version: Version, package: Package, packages: Packages, into: Path, progress: Progress
    ) -> Stored:
        """Only what the host lacks is exported and uploaded; a second call finds nothing to do."""
        words = f"{version.environment}:{version.number}"
        bundles.check(package)
        if package.digest != version.digest:
            raise PluginError(f"version {words} is image {version.digest}, and not {package.digest}")
        layers = _once(package.layers)
        index = bundles.describe(package.digest, [{"digest": one.digest, "size": one.size} for one in package.layers])
        locator = "sha256:" + hashlib.sha256(index).hexdigest()
        blobs = (*(layer.digest for layer in layers), package.digest, locator)
        missing = await self._ctx.blobs.missing(blobs)
        new = [layer for layer in layers if layer.digest in missing]
        if new:
            await packages.export(package, [layer.digest for layer in new], into, progress)
        told = Sum(f"uploading {words}", new, progress)

        async def upload(layer: Layer) -> None:
            await self._ctx.blobs.put(layer.digest, bundles.blob(into, layer.digest), told.of(layer))
            told.finish(layer)

        await self._each(new, upload)
        for digest, content in ((package.digest, package.config), (locator, index)):
            if digest in missing:
                await self._ctx.in_thread(bundles.pack, into, digest, [content])
                await self._ctx.blobs.put(digest, bundles.blob(into, digest), progress)
        return Stored(version=version, locator=locator, size=package.size, blobs=blobs)

    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:
        """Called again with an emptier `held`, it fetches what a backend wants although it has it."""
        version = stored.version
        words = f"{version.environment}:{version.number}"
        package = await self._index(stored, into, progress)
        layers = _once(held.lacks(package))
        there = [layer for layer in layers if await self._ctx.in_thread(_is_right, into, layer)]
        lacking = [layer for layer in layers if layer not in there]
        await self._ctx.in_thread(need_room, into, sum(layer.size for layer in lacking), words)
        told = Sum(f"fetching {words}", layers, progress)
        for layer in there:
            told.finish(layer)

        async def fetch(layer: Layer) -> None:
            await self._get(stored, layer.digest, into, told.of(layer))
            told.finish(layer)

        await self._each(lacking, fetch)
        await self._ctx.in_thread(bundles.write_index, into, package)
        return Image(
            kind=KIND, digest=package.digest, path=into, environment=version.environment, number=version.number
        )

    async def list(self) -> Sequence[Stored]:
        """Nothing: the medium is the host's, which knows its versions."""
        return ()

    async def remove(self, stored: Stored) -> None:
        """Nothing: the host collects the contents that no version of its own needs."""

    async def _index(self, stored: Stored, into: Path, progress: Progress) -> Package:
        words = f"{stored.version.environment}:{stored.version.number}"
        if any(DIGEST.fullmatch(digest) is None for digest in (stored.locator, stored.version.digest)):
            raise PluginError(f"version {words} cannot be found: {stored.locator[:80]!r} leads nowhere")
        index = await self._small(stored, stored.locator, into, progress)
        package_config = await self._small(stored, stored.version.digest, into, progress)
        try:
            return bundles.parse(index, package_config, "its index")
        except PluginError as error:
            raise PluginError(f"version {words} cannot be used: {error.message}") from None

    async def _small(self, stored: Stored, digest: str, into: Path, progress: Progress) -> bytes:
        path = bundles.blob(into, digest)
        content = await self._ctx.in_thread(_left, path, digest)
        if content is None:
            await self._get(stored, digest, into, progress)
            content = await self._ctx.in_thread(_left, path, digest)
        if content is None:
            raise PluginError(f"version {stored.version.environment}:{stored.version.number}: {digest} came damaged")
        return bytes(content)

    async def _get(self, stored: Stored, digest: str, into: Path, progress: Progress) -> None:
        words = f"{stored.version.environment}:{stored.version.number}"
        try:
            await self._ctx.blobs.get(digest, bundles.blob(into, digest), progress)
        except NotFound:
            raise PluginError(
                f"version {words} cannot be fetched: the host no longer has its content {digest}; package it anew"
            ) from None
        except PluginError as error:
            raise PluginError(f"version {words} cannot be fetched: {error.message}") from None

    async def _each(self, items: Iterable[Item], do: Callable[[Item], Awaitable[None]]) -> None:
        """All of them, so many at once; the first failure ends the others and is raised as it is."""
        turns = asyncio.Semaphore(self._settings.at_once)

        async def one(item: Item) -> None:
            async with turns:
                await do(item)

        try:
            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(one(item))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


def _once(layers: Iterable[Layer]) -> list[Layer]:
    """Without those that are the same: an image may have a layer twice."""
    return list({layer.digest: layer for layer in layers}.values())


def _is_right(into: Path, layer: Layer) -> bool:
    """Whether an earlier call left this layer; what is spoiled goes."""
    path = bundles.blob(into, layer.digest)
    if not path.exists():
        return False
    try:
        bundles.verify(path, layer.digest, layer.size)
    except PluginError:
        path.unlink(missing_ok=True)
        return False
    return True


def _left(path: Path, digest: str) -> bytes | None:
    """A small content that is there and right; what is spoiled goes."""
    if not path.exists():
        return None
    try:
        content = b"".join(bundles.unpack(path, bundles.MOST_CONFIG))
    except PluginError:
        content = b""
    if "sha256:" + hashlib.sha256(content).hexdigest() == digest:
        return content
    path.unlink(missing_ok=True)
    return None
