"""Images out of the daemon: what one is made of, and bundles of its layers.

From the daemon's own directory where that can be read, which costs what the wanted layers weigh; else from what the
Engine saves, which costs the whole image each time.
"""

import asyncio
import contextlib
import errno
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

from kohakuriver.errors import Invalid, PluginError, StorageFull
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.packages import Layer, Package, chain
from kohakuriver.hooks.room import need_room
from kohakuriver_docker import archives
from kohakuriver_docker.archives import Archive
from kohakuriver_docker.engine import Engine
from kohakuriver_docker.info import Info
from kohakuriver_docker.layerdb import LayerDb
from kohakuriver_docker.loading import SLOWEST
from kohakuriver_docker.local import Inspected, find
from kohakuriver_docker.steps import Step

logger = logging.getLogger(__name__)

#: threads that compress; a third one reads and hashes
THREADS = 2
#: of a saved image, whatever it weighs: it is our own
UNLIMITED = 1 << 62
#: headers of a tar, as a part of the files that it holds, and bytes beside
OVERHEAD, BESIDE = 1.1, 64 << 20
PIECE = 1 << 20


class Exporter:
    """Out of one daemon."""

    def __init__(self, engine: Engine, ctx: Context, silence: float, facts: Callable[[], Awaitable[Info]]) -> None:
        self._engine = engine
        self._ctx = ctx
        self._silence = silence
        self._facts = facts
        #: one index for each image that was looked into
        self._indexes = ctx.state / "images"
        #: by digest, for as long as anybody looks into the image or waits
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tidied = False
        #: bytes of the tar of each layer that we know
        self._sizes: dict[str, int] = {}

    async def describe(self, image: Inspected) -> Package:
        """What it is made of; looked up once for an image. Raises PluginError, StorageFull, BackendAway."""
        folder = self._indexes / image.id.removeprefix("sha256:")
        turn = self._turns.setdefault(image.id, asyncio.Lock())
        async with turn:
            with contextlib.suppress(PluginError):
                return await self._ctx.in_thread(bundles.read_index, folder)  # type: ignore[no-any-return]
            package = await self._look_into(image)
            await self._ctx.in_thread(_keep_index, folder, package)
            return package

    async def keep(self, digests: Collection[str]) -> None:
        """Forgets what is known of all other images."""
        await self._ctx.in_thread(_keep, self._indexes, {digest.removeprefix("sha256:") for digest in digests})

    async def export(self, package: Package, layers: Collection[str], into: Path, progress: Progress) -> None:
        """As `Packages.export`."""
        known = {layer.digest: layer for layer in package.layers}
        if strange := set(layers) - set(known):
            raise PluginError(f"image {package.digest} has no layer {min(strange)}")
        try:
            left = await self._ctx.in_thread(_lacking, [known[digest] for digest in set(layers)], into)
            total = sum(known[digest].size for digest in left)
            await self._ctx.in_thread(need_room, into, total, f"image {package.digest}")
            step = Step(self._ctx.in_thread, progress, "packing", total)
            try:
                left = await self._from_directory(package, left, into, step)
                if left:
                    await self._from_engine(package, left, into, step, progress)
            finally:
                await step.stop()
            await self._ctx.in_thread(bundles.write_index, into, package)
        except OSError as error:
            raise _told(error, f"image {package.digest} cannot be packed") from None

    async def _from_directory(self, package: Package, left: frozenset[str], into: Path, step: Step) -> frozenset[str]:
        """Packs what can be had from the daemon's directory; returns the others."""
        db = await self._directory()
        if db is None:
            return left
        for layer, name in zip(package.layers, package.chains, strict=True):
            if layer.digest not in left:
                continue
            try:
                await step.run(_pack, into, layer.digest, step.count(db.pieces(name)))
            except PluginError as error:
                logger.warning("layer is taken from Docker", extra={"layer": layer.digest, "error": error.message})
                return left
            left -= {layer.digest}
        return left

    async def _from_engine(
        self, package: Package, left: frozenset[str], into: Path, step: Step, progress: Progress
    ) -> None:
        async with self._saved(await find(self._engine, package.digest), into, progress) as archive:
            contents = archive.layers(left)
            while (found := await step.run(next, contents, None)) is not None:
                layer, pieces = found
                await step.run(_pack, into, layer.digest, step.count(pieces))
                left -= {layer.digest}
        if left:
            raise PluginError(f"image {package.digest}: Docker saved it without its layer {min(left)}")

    async def _look_into(self, image: Inspected) -> Package:
        db = await self._directory()
        if db is not None:
            step = Step(self._ctx.in_thread, _nobody, "", 0)
            try:
                return await step.run(self._described, db, image.id, step)
            except PluginError as error:
                logger.warning("image is taken from Docker", extra={"image": image.id, "error": error.message})
            finally:
                await step.stop()
        try:
            if not self._tidied:
                self._tidied = True
                await self._ctx.in_thread(_tidy, self._indexes)
            async with self._saved(image, self._indexes, _nobody) as archive:
                return archive.package
        except OSError as error:
            raise _told(error, f"image {image.id} cannot be looked into") from None

    def _described(self, db: LayerDb, digest: str, step: Step) -> Package:
        config = db.config(digest)
        try:
            names = archives.must_suit(config, "")
        except Invalid as error:
            raise PluginError(error.message) from None
        layers: list[Layer] = []
        top: str | None = None
        for name in names:
            step.check()
            top = chain(top, name)
            if name not in self._sizes:
                self._sizes[name] = db.size(top)
            layers.append(Layer(digest=name, size=self._sizes[name]))
        package = Package(digest=digest, config=config, layers=tuple(layers))
        bundles.check(package)
        return package

    async def _directory(self) -> LayerDb | None:
        info = await self._facts()
        db = LayerDb(Path(info.root), info.storage)
        return db if await self._ctx.in_thread(lambda: db.is_readable) else None

    @contextlib.asynccontextmanager
    async def _saved(self, image: Inspected, folder: Path, progress: Progress) -> AsyncIterator[Archive]:
        """The image as the Engine saves it, in a file that is gone afterwards."""
        path = folder / f"{image.id.removeprefix('sha256:')}.tar.part"
        size = int(image.size * OVERHEAD) + BESIDE
        await self._ctx.in_thread(need_room, folder, size, f"image {image.id}")
        step = Step(self._ctx.in_thread, progress, "saving", image.size)
        try:
            with contextlib.ExitStack() as stack:
                await self._save(image.id, path, size, step)
                try:
                    archive = await step.run(
                        stack.enter_context, archives.opened(path, most=UNLIMITED, told=step.check)
                    )
                except Invalid as error:
                    raise PluginError(f"image {image.id} as Docker saved it: {error.message}") from None
                if archive.package.digest != image.id:
                    raise PluginError(f"image {image.id} is {archive.package.digest} when Docker saves it")
                yield archive
        finally:
            await step.stop()
            path.unlink(missing_ok=True)

    async def _save(self, digest: str, path: Path, size: int, step: Step) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(self._silence + size / SLOWEST) as limit,
                self._engine.stream("GET", f"/images/{digest}/get") as response,
            ):
                with path.open("wb") as file:
                    async for piece in response.content.iter_chunked(PIECE):
                        await step.run(_write, file, piece, step)
                        limit.reschedule(loop.time() + self._silence)
        except TimeoutError:
            raise PluginError(f"image {digest} was not saved: nothing came for {self._silence:g} s") from None


def _nobody(note: str, done: int | None = None, total: int | None = None) -> None:
    """Is told, and tells nobody."""


def _write(file: IO[bytes], piece: bytes, step: Step) -> None:
    file.write(piece)
    step.reach(file.tell())


def _pack(into: Path, digest: str, pieces: Iterable[bytes]) -> None:
    bundles.pack(into, digest, pieces, threads=THREADS)


def _lacking(layers: Collection[Layer], into: Path) -> frozenset[str]:
    """The layers that the folder has not got; what is half-made or wrong there is removed."""
    for part in into.glob("*.part"):
        part.unlink(missing_ok=True)
    lacking: set[str] = set()
    for layer in layers:
        path = bundles.blob(into, layer.digest)
        try:
            bundles.verify(path, layer.digest, layer.size)
        except (PluginError, FileNotFoundError):
            path.unlink(missing_ok=True)
            lacking.add(layer.digest)
    return frozenset(lacking)


def _keep_index(folder: Path, package: Package) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        bundles.write_index(folder, package)
    except OSError as error:  # the next one looks again
        logger.warning("index of an image was not kept", extra={"image": package.digest, "error": str(error)})


def _tidy(indexes: Path) -> None:
    """Removes what an earlier life was saving when it ended."""
    indexes.mkdir(mode=0o700, exist_ok=True)
    for part in indexes.glob("*.part"):
        part.unlink(missing_ok=True)


def _keep(indexes: Path, names: Collection[str]) -> None:
    with contextlib.suppress(FileNotFoundError):
        for folder in indexes.iterdir():
            if folder.name not in names and folder.suffix != ".part":
                shutil.rmtree(folder, ignore_errors=True)


def _told(error: OSError, what: str) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{what}: {error.strerror}")
    return PluginError(f"{what}: {error}")
