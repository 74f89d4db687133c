"""Environment containers of this node's Docker: the contract's words, each one operation on one container.

Every step may be the last: what a step needs to know of the one before stands in labels, names or marks.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from kohakuriver.errors import BackendAway, Conflict, NotFound, PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.environments import EnvironmentContainer, Files, Terminal
from kohakuriver.hooks.packages import Package, Packages, Version
from kohakuriver.hooks.values import Image
from kohakuriver_docker import shells
from kohakuriver_docker.building import Building
from kohakuriver_docker.config import Settings
from kohakuriver_docker.engine import Engine, EngineError
from kohakuriver_docker.files import DockerFiles
from kohakuriver_docker.importing import Importer
from kohakuriver_docker.inspected import inspect
from kohakuriver_docker.marks import Mark, Marks
from kohakuriver_docker.names import Names
from kohakuriver_docker.packaging import ARCHIVE, BUILD, CONTAINER, Packaging
from kohakuriver_docker.setups import ORIGIN, Setup, Setups
from kohakuriver_docker.terminal import Terminals
from kohakuriver_docker.turns import Turns

logger = logging.getLogger(__name__)


class DockerEnvironments:
    """Those of one runner."""

    def __init__(
        self,
        engine: Engine,
        names: Names,
        settings: Settings,
        ctx: Context,
        *,
        network: Callable[[], Awaitable[None]],
        packages: Packages,
        importer: Importer,
    ) -> None:
        self._engine = engine
        self._names = names
        self._ctx = ctx
        self._packages = packages
        self._importer = importer
        self._setups = Setups(engine, names, settings, network)
        self._packaging = Packaging(engine, names)
        self._building = Building(
            engine, names, ctx, self._packaging, network=network if settings.network == "private" else None
        )
        self._terminals = Terminals(engine, ctx)
        self._marks = Marks(ctx)
        self._turns = Turns()

    async def list(self) -> Sequence[EnvironmentContainer]:
        return await self._setups.list(self._terminals.counts)

    async def create(self, name: str, image: Image, origin: str, progress: Progress) -> EnvironmentContainer:
        with self._turns.alone(name, "created"):
            with contextlib.suppress(NotFound):
                await self._setups.find(name)
                raise Conflict(f"there is an environment container {name} already; delete it or choose another name")
            try:
                base = await inspect(self._engine, image.digest or image.reference or "")
            except EngineError as error:
                raise PluginError(f"container {name} cannot be made of {origin}: {error.message}") from None
            progress(f"container {name} is made of {origin}")
            await self._marks.remove(name)
            made = await self._setups.make(name, base, origin)
            try:
                await self._setups.start(made)
            except BaseException:
                await self._setups.remove(made)
                raise
        found = next((one for one in await self.list() if one.name == name), None)
        if found is None:
            raise NotFound(f"container {name} was made, and somebody has removed it since; make it again")
        return found

    async def start(self, name: str) -> None:
        with self._turns.alone(name, "started"):
            found = await self._setups.find(name)
            if not found.state.running:
                await self._marks.remove(name)
                await self._setups.start(found.id)

    async def stop(self, name: str) -> None:
        with self._turns.alone(name, "stopped"):
            await self._setups.stop((await self._setups.find(name)).id)

    async def delete(self, name: str) -> None:
        with self._turns.alone(name, "deleted"):
            found = await self._setups.find(name)
            successor = await self._setups.successor(name)
            if successor is not None:
                await self._setups.remove(successor.id)
            await self._setups.remove(found.id)
            await self._marks.remove(name)

    async def commit(self, name: str, *, force: bool, progress: Progress) -> Package:
        with self._turns.alone(name, "packaged"):
            found = await self._setups.find(name)
            count = self._terminals.counts.get(name, 0)
            if count and not force:
                raise Conflict(f"container {name} has {count} open terminals, which packaging would end; close them")
            mark = await self._marks.read(name)
            ran = found.state.running or (mark is not None and mark.container in (found.id, "") and mark.ran)
            await self._packaging.forget_pending(CONTAINER, name)
            try:
                return await self._commit(name, found, ran, progress)
            except BaseException:
                await self._restore(name, found.id, ran)
                raise

    async def _commit(self, name: str, found: Setup, ran: bool, progress: Progress) -> Package:
        await self._marks.write(name, Mark(container=found.id, ran=ran))
        progress(f"container {name} is stopped")
        await self._setups.stop(found.id)
        digest = await self._packaging.commit(name, found, progress)
        await self._marks.write(name, Mark(container=found.id, ran=ran, digest=digest))
        return await self._packages.describe(digest)

    async def _restore(self, name: str, container: str, ran: bool) -> None:
        """As it was before a packaging that came to nothing."""
        await self._packaging.forget_pending(CONTAINER, name)
        if ran:
            await self._setups.start(container)
        await self._marks.remove(name)

    async def settle(self, name: str, version: Version) -> None:
        with self._turns.alone(name, "made anew of its version"):
            await self._settle(name, version)

    async def _settle(self, name: str, version: Version) -> None:
        await self._packaging.name_version(version)
        mark = await self._marks.read(name)
        if mark is not None and mark.digest == version.digest:
            with contextlib.suppress(NotFound):  # it was deleted in the meantime: the version stays
                found = await self._setups.find(name)
                if found.id == mark.container and not found.state.running:
                    found = await self._replace(name, found, version)
                if mark.ran:
                    await self._setups.start(found.id)
            await self._marks.remove(name)
        await self._packaging.forget_digest(version.digest)

    async def _replace(self, name: str, found: Setup, version: Version) -> Setup:
        """The container made anew. It is on a name of its own until the old one is gone."""
        successor = await self._setups.successor(name)
        if successor is not None and successor.image != version.digest:
            await self._setups.remove(successor.id)
            successor = None
        if successor is None:
            origin = (found.config.labels or {}).get(ORIGIN, "")
            base = await inspect(self._engine, version.digest)
            await self._setups.make(name, base, origin, successor=True)
        await self._setups.remove(found.id)
        return await self._setups.find(name)

    async def sweep(self, known: Mapping[str, Version]) -> None:
        failed: list[PluginError] = []
        for name in await self._setups.names():
            try:
                with contextlib.suppress(NotFound, Conflict), self._turns.alone(name, "tidied up"):
                    await self._tidy(name, known)
            except BackendAway:
                raise
            except PluginError as error:  # of this container alone: the others are not made to wait for it
                logger.warning("container was not tidied up", extra={"environment": name, "error": error.message})
                failed.append(error)
        for name in set(await self._marks.all()) - self._turns.busy:
            if await self._setups.look(name) is None:
                await self._marks.remove(name)
        for kind in (CONTAINER, BUILD, ARCHIVE):
            await self._packaging.forget_pending(kind)
        await self._building.sweep()
        if failed:
            raise failed[0]

    async def _tidy(self, name: str, known: Mapping[str, Version]) -> None:
        found = await self._setups.find(name)
        mark = await self._marks.read(name)
        if mark is not None and mark.digest in known:
            await self._settle(name, known[mark.digest])
        else:  # who asks has no packaging under way, so nothing will come of this one
            await self._undo(name, found, mark)
        if not self._terminals.counts.get(name):
            await self._terminals.clear(found.id, name)

    async def _undo(self, name: str, found: Setup, mark: Mark | None) -> None:
        """What a packaging or a settling left that nobody goes on with."""
        successor = await self._setups.successor(name)
        if successor is not None:
            await self._setups.remove(successor.id)
        if mark is not None:
            await self._restore(name, found.id, mark.ran)
        else:  # the daemon finishes a commit that nobody waits for any more
            await self._packaging.forget_pending(CONTAINER, name)

    async def shell(
        self, name: str, argv: Sequence[str], *, columns: int, rows: int, env: Mapping[str, str]
    ) -> Terminal:
        with self._turns.beside(name):
            found = await self._setups.find(name)
            if not found.state.running:
                raise Conflict(f"container {name} does not run; start it first")
            words = list(argv) or [await shells.best(self._setups, self._files(name), found.id)]
            return await self._terminals.open(name, found, words, columns=columns, rows=rows, env=env)

    def files(self, name: str) -> Files:
        return self._files(name)

    def _files(self, name: str) -> DockerFiles:
        async def find() -> Setup:
            return await self._setups.find(name)

        @contextlib.asynccontextmanager
        async def changing() -> AsyncIterator[None]:
            with self._turns.beside(name):
                await self._marks.changed(name)
                yield

        return DockerFiles(self._ctx, find, changing)

    async def build(self, context: Path, dockerfile: str, progress: Progress) -> Package:
        return await self._packages.describe(await self._building.build(context, dockerfile, progress))

    async def take(self, archive: Path, progress: Progress) -> Package:
        reference = self._packaging.pending(ARCHIVE)
        try:
            return await self._importer.archive(archive, "", lambda _: reference, progress)
        except BaseException:
            await self._packaging.untag(reference)
            raise
