"""Images out of files: bundles, and archives of `docker save`; of both only what the daemon lacks is sent."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.errors import Invalid, PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.packages import Held, NeedsLayers, Package
from kohakuriver.hooks.room import need_room
from kohakuriver_docker import archives
from kohakuriver_docker.config import Settings
from kohakuriver_docker.engine import Engine
from kohakuriver_docker.info import Info
from kohakuriver_docker.loading import Contents, Loader
from kohakuriver_docker.local import Chains, every
from kohakuriver_docker.steps import Step
from kohakuriver_docker.tars import Budget

#: while it loads, a daemon holds what it was sent twice: as files of the archive, and unpacked
COPIES = 2


@dataclass(frozen=True, kw_only=True)
class _Cargo:
    """An image in a file: what it is, what the file has of it, and the local name that a digest gets."""

    package: Package
    carried: frozenset[str]
    contents: Callable[[frozenset[str]], Contents]
    name: Callable[[str], str]


class Importer:
    """Into one daemon."""

    def __init__(self, engine: Engine, ctx: Context, settings: Settings, facts: Callable[[], Awaitable[Info]]) -> None:
        self._engine = engine
        self._ctx = ctx
        self._most = settings.most_image
        self._facts = facts
        self._chains = Chains(engine)
        self._loader = Loader(engine, ctx, settings.pull_silence)

    async def bundle(self, folder: Path, digest: str, name: Callable[[str], str], progress: Progress) -> Package:
        """Loads an image from a bundle. `digest`: what it must be, "" for anything; `name`: the local name of a digest.

        Raises NeedsLayers, PluginError, StorageFull, Unreachable.
        """
        package: Package = await self._ctx.in_thread(bundles.read_index, folder)
        _must_be(digest, package)
        facts = await self._facts()
        try:
            archives.must_suit(package.config, facts.architecture)
            Budget(self._most).take(package.size, folder.name)
        except Invalid as error:
            raise PluginError(f"image {package.digest}: {error.message}") from None
        carried: frozenset[str] = await self._ctx.in_thread(bundles.carried, folder, package)

        def contents(sent: frozenset[str]) -> Contents:
            for layer in {layer.digest: layer for layer in package.layers}.values():
                if layer.digest in sent:
                    yield layer, bundles.unpack(bundles.blob(folder, layer.digest), layer.size)

        return await self._load(_Cargo(package=package, carried=carried, contents=contents, name=name), progress)

    async def archive(self, path: Path, digest: str, name: Callable[[str], str], progress: Progress) -> Package:
        """As `bundle`, from an archive. Raises Invalid, telling what is wrong with it: then nothing of it has reached
        the daemon.
        """
        facts = await self._facts()
        step = Step(self._ctx.in_thread, progress, "checking", await self._ctx.in_thread(_size, path))
        with contextlib.ExitStack() as stack:
            try:
                opened = archives.opened(path, most=self._most, architecture=facts.architecture, told=step.reach)
                archive = await step.run(stack.enter_context, opened)
            finally:
                await step.stop()
            package = archive.package
            _must_be(digest, package)
            carried = frozenset(layer.digest for layer in package.layers)
            cargo = _Cargo(package=package, carried=carried, contents=archive.layers, name=name)
            return await self._load(cargo, progress)

    async def _load(self, cargo: _Cargo, progress: Progress) -> Package:
        known = await self._chains.of(await every(self._engine))
        lacks = Held(chains=frozenset().union(*known.values())).lacks(cargo.package)
        sent = frozenset(layer.digest for layer in lacks)
        try:
            await self._send(cargo, sent, progress)
        except NeedsLayers:
            everything = frozenset(layer.digest for layer in cargo.package.layers)
            if sent == everything or not sent <= cargo.carried:
                raise
            await self._send(cargo, everything, progress)
        return cargo.package

    async def _send(self, cargo: _Cargo, sent: frozenset[str], progress: Progress) -> None:
        package = cargo.package
        if missing := sent - cargo.carried:
            raise NeedsLayers(f"image {package.digest} needs {len(missing)} layers that were not fetched", missing)
        await self._must_fit(package, sent)
        await self._loader.load(package, cargo.name(package.digest), sent, cargo.contents, progress)

    async def _must_fit(self, package: Package, sent: frozenset[str]) -> None:
        """Raises StorageFull where the daemon's disk can be seen to be too small."""
        size = COPIES * sum(layer.size for layer in package.layers if layer.digest in sent)
        root = Path((await self._facts()).root)
        with contextlib.suppress(OSError):  # not ours to see: the daemon will say so
            await self._ctx.in_thread(need_room, root, size, f"loading image {package.digest}")


def _must_be(digest: str, package: Package) -> None:
    if digest and package.digest != digest:
        raise PluginError(f"image {digest} was wanted, and the file holds {package.digest}")


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError as error:
        raise Invalid(f"archive {path.name} cannot be read: {error.strerror}") from None
