"""What a node is asked about environments (wire/environments.py), one branch an ask. Knows no stream's end.

Everything here may be asked again after any line: the backend and the syncer are idempotent, and folders are fresh.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kohakuriver.errors import BackendAway, Conflict, Invalid
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.capabilities import CanEnvironments
from kohakuriver.hooks.environments import Environments
from kohakuriver.hooks.packages import Package, Version
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.runner.environments import files, spool, terminal, words
from kohakuriver.runner.environments.channel import Channel, from_any_thread
from kohakuriver.runner.environments.ensure import Ensurer
from kohakuriver.runner.environments.prune import Room
from kohakuriver.runner.environments.stock import Stock
from kohakuriver.wire import environments as wire

Kind = TypeVar("Kind", bound=Backend)
Publishing = wire.PackageContainer | wire.BuildVersion | wire.ImportVersion | wire.PublishReference


class Builder:
    """Answers asks. What its backends cannot do is refused in words."""

    def __init__(
        self,
        *,
        node: str,
        backends: Mapping[str, Backend],
        stocks: Mapping[str, Stock],
        syncers: Mapping[str, Syncer],
        ensurer: Ensurer,
        room: Room,
        trouble: Callable[[str], str | None],
        folder: Path,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self._node = node
        self._backends = backends
        self._stocks = stocks
        self._syncers = syncers
        self._ensurer = ensurer
        self._room = room
        self._trouble = trouble
        self._spools = folder / "spool"
        self._bundles = folder / "publish"
        self._in_thread = in_thread

    async def answer(self, ask: wire.AnyAsk, channel: Channel) -> msgspec.Struct:
        """The result. Raises KohakuRiverError in words for who asked."""
        match ask:
            case wire.Shell():
                return await terminal.shell(self._keeper(), ask, channel)
            case wire.FileAsk():
                found = self._keeper().files(ask.name)
                return await files.serve(found, ask, channel, self._spools, self._in_thread)
            case wire.ListImages():
                return wire.Images(images=words.images((await self._stock().look()).images.values()))
            case wire.ListStored():
                found_there = await self._syncer(ask.syncer).list()
                return wire.StoredVersions(versions=[words.stored_version(one, ask.syncer) for one in found_there])
            case wire.RemoveVersion():
                await self._syncer(ask.version.syncer).remove(words.stored_of(ask.version))
                return wire.Done()
            case wire.PackageContainer() | wire.BuildVersion() | wire.ImportVersion() | wire.PublishReference():
                return await self._publish(ask, channel)
        return await self._containers(ask, channel)

    async def _containers(self, ask: wire.AnyAsk, channel: Channel) -> msgspec.Struct:
        keeper = self._keeper()
        match ask:
            case wire.ListContainers():
                return wire.Containers(containers=[words.container(one) for one in await keeper.list()])
            case wire.CreateContainer():
                return await self._create(keeper, ask, from_any_thread(channel.progress))
            case wire.StartContainer():
                await keeper.start(ask.name)
            case wire.StopContainer():
                await keeper.stop(ask.name)
            case wire.DeleteContainer():
                await keeper.delete(ask.name)
            case wire.SettleContainer():
                await keeper.settle(ask.name, words.version_of(ask.version))
                await self._stock().look()
            case wire.Sweep():
                await keeper.sweep({version.digest: words.version_of(version) for version in ask.versions})
        return wire.Done()

    async def _create(self, keeper: Environments, ask: wire.CreateContainer, progress: Progress) -> wire.Container:
        stock = self._stock()
        if ask.version is not None:
            with self._ensurer.kept(ask.version.digest):
                await self._ensurer.ensure(stock, ask.version, progress, ask.pull)
                origin = f"{ask.version.environment}:{ask.version.number}"
                return words.container(await keeper.create(ask.name, words.image_of(ask.version), origin, progress))
        image, origin = words.reference(ask.image, ask.pull), ask.image
        await stock.backend.prepare(image, progress)
        return words.container(await keeper.create(ask.name, image, origin, progress))

    async def _publish(self, ask: Publishing, channel: Channel) -> wire.Published:
        """Makes the package and hands it to the syncer. Nothing names the version before the host has stored it."""
        syncer = self._syncer(ask.syncer)
        progress = from_any_thread(channel.progress)
        async with spool.folder(self._spools, self._in_thread) as folder:
            package = await self._package(ask, channel, folder, progress)
        version = Version(environment=ask.name, number=ask.number, digest=package.digest)
        async with spool.folder(self._bundles, self._in_thread) as into:
            await self._room.make(0, f"publishing {ask.name}")
            stored = await syncer.publish(version, package, self._stock().packages, into, progress)
            moved = await self._in_thread(spool.carried, into)
        return wire.Published(version=words.wire_version(stored, ask.syncer, package), moved=moved)

    async def _package(self, ask: Publishing, channel: Channel, folder: Path, progress: Progress) -> Package:
        match ask:
            case wire.PackageContainer():
                return await self._keeper().commit(ask.name, force=ask.force, progress=progress)
            case wire.BuildVersion():
                path = folder / "context.tar"
                await spool.spool(channel.data(), path, spool.MOST_CONTEXT, self._in_thread)
                return await self._keeper().build(path, ask.dockerfile, progress)
            case wire.ImportVersion():
                path = folder / "archive.tar"
                await spool.spool(channel.data(), path, spool.MOST_ARCHIVE, self._in_thread)
                return await self._keeper().take(path, progress)
            case wire.PublishReference():
                stock = self._stock()
                await stock.backend.prepare(words.reference(ask.image), progress)
                return await stock.packages.describe(ask.image)

    def _keeper(self) -> Environments:
        able = [backend for backend in self._backends.values() if isinstance(backend, CanEnvironments)]
        if not able:
            raise Conflict(f"node {self._node} keeps no environment containers: none of its backends can")
        return self._usable(able).environments

    def _stock(self) -> Stock:
        """Of the backend with the containers, where there is one."""
        able = [self._backends[name] for name in self._stocks]
        if not able:
            raise Conflict(f"node {self._node} holds no images: none of its backends takes any")
        return self._stocks[self._usable([one for one in able if isinstance(one, CanEnvironments)] or able).name]

    def _usable(self, able: Sequence[Kind]) -> Kind:
        """The first that works. Raises BackendAway with what is wrong with it when none does."""
        troubles = {backend.name: self._trouble(backend.name) for backend in able}
        for backend in able:
            if troubles[backend.name] is None:
                return backend
        raise BackendAway(f"node {self._node}: {'; '.join(filter(None, troubles.values()))}")

    def _syncer(self, name: str) -> Syncer:
        syncer = self._syncers.get(name)
        if syncer is None:
            known = ", ".join(sorted(self._syncers)) or "none"
            raise Invalid(f"node {self._node} has no syncer {name}; it has {known}", field="syncer", value=name)
        return syncer
