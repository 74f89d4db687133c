"""Images of one daemon as packages: what is here, taking one apart, pushing it to a registry, letting go of it.

Only what has a name of this cluster's is ours to remove; of everything else only the layers count.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Held, HeldImage, Package
from kohakuriver_docker.engine import LONG, Engine, EngineError
from kohakuriver_docker.exporting import Exporter
from kohakuriver_docker.images import Images
from kohakuriver_docker.local import Chains, Listed, every, find, used
from kohakuriver_docker.names import Names
from kohakuriver_docker.pushing import Pusher


class DockerPackages:
    """`hooks.packages.Packages` of one daemon."""

    def __init__(self, engine: Engine, names: Names, images: Images, exporter: Exporter, pusher: Pusher) -> None:
        self._engine = engine
        self._names = names
        self._images = images
        self._exporter = exporter
        self._pusher = pusher
        self._chains = Chains(engine)

    async def held(self) -> Held:
        listed = await every(self._engine)
        in_use = await used(self._engine)
        known = await self._chains.of(listed)
        images = {image.id: self._held(image, image.id in in_use) for image in listed if image.id in known}
        return Held(images=images, chains=frozenset().union(*known.values()))

    async def describe(self, image: str) -> Package:
        package = await self._exporter.describe(await find(self._engine, image))
        await self._exporter.keep([image.id for image in await every(self._engine)])
        return package

    async def export(self, package: Package, layers: Collection[str], into: Path, progress: Progress) -> None:
        await self._exporter.export(package, layers, into, progress)

    async def push(self, digest: str, reference: str, auth: str | None, progress: Progress) -> str:
        return await self._pusher.push(digest, reference, auth, progress)

    async def drop(self, digest: str) -> bool:
        """Names of ours go last, so that one that was cut off is still ours; somebody else's name keeps the image."""
        image = next((one for one in await every(self._engine) if one.id == digest), None)
        if image is None:
            return True
        ours = [name for name in image.names if self._names.is_our_image(name)]
        if not ours or digest in await used(self._engine):
            return False
        self._images.forget()
        foreign = len(ours) < len(image.names)
        for name in (*(() if foreign else image.pulled), *ours):
            if not await self._unname(name):
                return False
        return not foreign and all(one.id != digest for one in await every(self._engine))

    async def _unname(self, name: str) -> bool:
        """False when a container uses it, however short a time ago that was made."""
        try:
            await self._engine.send("DELETE", f"/images/{name}", limit=LONG)
        except EngineError as error:
            if error.status == 409:
                return False
            if error.status != 404:
                raise PluginError(f"image {name} cannot be removed: {error.message}") from None
        return True

    def _held(self, image: Listed, used: bool) -> HeldImage:
        versions = [version for name in image.names if (version := self._names.version(name)) is not None]
        return HeldImage(
            digest=image.id,
            names=image.names or image.pulled,
            size=image.size,
            created=datetime.fromtimestamp(image.created, UTC),
            used=used,
            environment=max(versions, key=lambda version: version[1]) if versions else None,
        )
