"""Versions as folders that are bundles, in a directory that all nodes see; for tests and for reading."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kohakuriver.errors import PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Held, Package, Packages, Stored, Version
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.hooks.values import Image, Probe


class ExampleSyncer(Syncer):
    name = "example"

    async def open(self, ctx: SyncContext) -> None:
        self.folder = Path(ctx.config.get("folder", ctx.state))
        self.mark = f".{ctx.node}-"
        for path in self.folder.glob(f"{self.mark}*"):  # of an earlier life, which this node has one of at a time
            shutil.rmtree(path)

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        there = self.folder.is_dir()
        return Probe(usable=there, problems=() if there else (f"{self.folder} is no directory",))

    async def publish(
        self, version: Version, package: Package, packages: Packages, into: Path, progress: Progress
    ) -> Stored:
        bundles.check(package)
        stored = Stored(version=version, locator=_name(version), size=package.size)
        if package.digest != version.digest:
            raise PluginError(f"version {_words(version)} is another image than {package.digest}")
        if not (self.folder / stored.locator).exists():
            await packages.export(package, {layer.digest for layer in package.layers}, into, progress)
            progress(f"copying {_words(version)}")
            part = self.folder / f"{self.mark}{uuid.uuid4().hex}"
            await _to_its_end(self._put, into, part, self.folder / stored.locator)
        return stored

    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:
        version = stored.version
        progress(f"copying {_words(version)}")
        if stored.locator != _name(version):
            raise PluginError(f"version {_words(version)} has no place: {stored.locator[:80]!r} leads nowhere")
        try:
            await _to_its_end(_get, self.folder / stored.locator, version.digest, held, into)
        except (PluginError, FileNotFoundError) as error:
            raise PluginError(f"version {_words(version)} cannot be used: {error}") from None
        return Image(
            kind="oci", digest=version.digest, path=into, environment=version.environment, number=version.number
        )

    async def list(self) -> Sequence[Stored]:
        found = [path.name.split("@") for path in self.folder.iterdir() if path.name.count("@") == 2]
        versions = [Version(environment=one, number=int(two), digest=f"sha256:{three}") for one, two, three in found]
        return [Stored(version=version, locator=_name(version)) for version in versions]

    async def remove(self, stored: Stored) -> None:
        if (self.folder / _name(stored.version)).exists():
            await _to_its_end(self._drop, self.folder / _name(stored.version))

    def _put(self, source: Path, part: Path, target: Path) -> None:
        try:
            shutil.copytree(source, part)
            if not target.exists():
                part.rename(target)  # from here on it is a version; fails when another was quicker
        except OSError:
            if not target.exists():
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _drop(self, target: Path) -> None:
        part = self.folder / f"{self.mark}{uuid.uuid4().hex}"
        target.rename(part)  # from here on it is none
        shutil.rmtree(part)


def _get(source: Path, digest: str, held: Held, into: Path) -> None:
    package = bundles.read_index(source)
    if package.digest != digest:
        raise PluginError(f"it holds image {package.digest}")
    for layer in held.lacks(package):
        place = bundles.blob(into, layer.digest)
        try:
            bundles.verify(place, layer.digest, layer.size)
        except (PluginError, FileNotFoundError):
            part = place.with_suffix(".part")
            shutil.copyfile(bundles.blob(source, layer.digest), part)
            bundles.verify(part, layer.digest, layer.size)
            part.rename(place)
    bundles.write_index(into, package)


async def _to_its_end(function: Callable[..., None], *arguments: Any) -> None:
    """In a thread; whoever is cancelled waits for it, so that nothing is written any more when he has gone."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _words(version: Version) -> str:
    return f"{version.environment}:{version.number}"


def _name(version: Version) -> str:
    return f"{version.environment}@{version.number}@{version.digest.removeprefix('sha256:')}"
