"""Brings a version of an environment to this node: one fetch however many attempts wait for it.

1. What is known to be there costs no I/O.
2. A fetch goes on while somebody waits for it; when the last one goes it is cancelled, and what came so far stays.
3. A failure is that of those who wait; the next one tries again.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from kohakuriver.errors import BackendAway, Invalid, KohakuRiverError, NotFound, PluginError, StorageFull, Unreachable
from kohakuriver.hooks.packages import Held, HeldImage, NeedsLayers
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.hooks.values import Image
from kohakuriver.runner.environments.channel import from_any_thread
from kohakuriver.runner.environments.prune import Room
from kohakuriver.runner.environments.stock import Stock
from kohakuriver.runner.environments.words import stored_of
from kohakuriver.wire.link import WireVersion

log = logging.getLogger(__name__)

KIB, MIB = 1000, 1000**2
Key = tuple[str, str]


@dataclass(eq=False, kw_only=True)
class _Fetch:
    key: Key
    stock: Stock
    version: WireVersion
    outcome: asyncio.Future[None]
    waiters: dict[object, Callable[[str], None]] = field(default_factory=dict)
    note: str = ""
    task: asyncio.Task[None] | None = None

    def tell(self, note: str) -> None:
        if note == self.note:
            return
        self.note = note
        for tell in self.waiters.values():
            tell(note)


class Ensurer:
    """All fetches of this node."""

    def __init__(
        self, *, syncers: Mapping[str, Syncer], room: Room, folder: Path, in_thread: Callable[..., Awaitable[Any]]
    ) -> None:
        self._syncers = syncers
        self._room = room
        self._folder = folder
        self._in_thread = in_thread
        self._group: asyncio.TaskGroup | None = None
        self._fetches: dict[Key, _Fetch] = {}
        self._kept: list[str] = []
        #: as long as somebody holds or awaits them
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Fetches run in this group from now on."""
        self._group = group

    @property
    def digests(self) -> frozenset[str]:
        """Images that are on their way, are about to be used, or are still being tidied up after."""
        turns = {digest for (_, digest), turn in self._turns.items() if turn.locked()}
        return frozenset({digest for _, digest in self._fetches} | turns).union(self._kept)

    @contextlib.contextmanager
    def kept(self, digest: str) -> Iterator[None]:
        """Nothing prunes it within the block: no attempt names it, and a container is about to be made of it."""
        self._kept.append(digest)
        try:
            yield
        finally:
            self._kept.remove(digest)

    async def ensure(
        self, stock: Stock, version: WireVersion, tell: Callable[[str], None], pull: str = "missing"
    ) -> None:
        """Returns when the image is there. `tell` gets words of how far it is.

        Raises what the syncer or the backend raised; BackendAway when backend or host do not answer, so that trying
        again later is right; StorageFull; Invalid for a syncer that is not here, or with `pull` never.
        """
        self._room.touch(version.digest)
        if pull == "always":
            await stock.look()
        if stock.has(version.digest):
            return
        if pull == "never" and version.digest not in (await stock.look()).images:
            raise Invalid(f"{named(version)} is not on this node, and pull is never", field="pull", value=pull)
        key = stock.backend.name, version.digest
        fetch = self._fetches.get(key) or self._start(key, stock, version)
        await self._wait(fetch, tell)

    def refusal(self, stock: Stock, version: WireVersion) -> str | None:
        """Why this version can never come here; None when it may, or nothing is known yet."""
        if version.syncer in self._syncers or stock.has(version.digest) or not stock.known:
            return None
        known = ", ".join(sorted(self._syncers)) or "none"
        return f"{named(version)} is kept by the syncer {version.syncer}, which this node has not got; it has {known}"

    def folder(self, key: Key) -> Path:
        """Where a fetch is put together."""
        backend, digest = key
        return self._folder / backend / digest.removeprefix("sha256:")

    async def tidy(self, before: float) -> None:
        """Removes what fetches left that nobody has gone on with since then (Unix time). Raises OSError."""
        for path in await self._in_thread(_older, self._folder, before):
            key = path.parent.name, f"sha256:{path.name}"
            if key in self._fetches or key in self._turns:
                continue
            async with self._turn(key):
                await self._in_thread(shutil.rmtree, path, ignore_errors=True)

    async def _wait(self, fetch: _Fetch, tell: Callable[[str], None]) -> None:
        me = object()
        fetch.waiters[me] = tell
        if fetch.note:
            tell(fetch.note)
        try:
            await asyncio.shield(fetch.outcome)
        finally:
            del fetch.waiters[me]
            if not fetch.waiters and not fetch.outcome.done():
                self._leave(fetch)

    def _leave(self, fetch: _Fetch) -> None:
        self._close(fetch)
        if fetch.task is not None:
            fetch.task.cancel()

    def _start(self, key: Key, stock: Stock, version: WireVersion) -> _Fetch:
        assert self._group is not None, "begin() comes first"
        future = asyncio.get_running_loop().create_future()
        fetch = self._fetches[key] = _Fetch(key=key, stock=stock, version=version, outcome=future)
        fetch.task = self._group.create_task(self._run(fetch), name=f"fetch {named(version)}")
        return fetch

    async def _run(self, fetch: _Fetch) -> None:
        what = named(fetch.version)
        error: Exception | None = None
        try:
            async with self._turn(fetch.key):
                await self._bring(fetch)
        except Unreachable as away:
            error = BackendAway(f"{what} cannot be fetched now: {away.message}")
        except KohakuRiverError as failed:
            error = failed
        except OSError as failed:
            error = PluginError(f"{what} cannot be fetched: {failed}")
        except Exception as crash:  # whatever a plugin raises: logged, and the attempts that wait fail with it
            log.exception("a fetch crashed", extra={"environment": what})
            error = PluginError(f"{what} cannot be fetched: {crash!r}")
        except asyncio.CancelledError:
            self._close(fetch)
            if fetch.waiters and not fetch.outcome.done():  # not given up by those who wait
                fetch.outcome.set_exception(BackendAway(f"{what} was not fetched to its end"))
                fetch.outcome.exception()  # at the end of the runner nobody may hear it any more
            raise
        self._close(fetch)
        if not fetch.waiters or fetch.outcome.done():
            return
        if error is None:
            fetch.outcome.set_result(None)
        else:
            log.warning("an environment was not fetched", extra={"environment": what, "error": str(error)})
            fetch.outcome.set_exception(error)

    def _close(self, fetch: _Fetch) -> None:
        """Whoever comes from now on begins another one."""
        if self._fetches.get(fetch.key) is fetch:
            del self._fetches[fetch.key]

    @contextlib.asynccontextmanager
    async def _turn(self, key: Key) -> Any:
        """One at a time for a folder: an earlier fetch that was given up may still be tidying up."""
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    async def _bring(self, fetch: _Fetch) -> None:
        stock, version = fetch.stock, fetch.version
        fetch.tell(f"fetching {named(version)}")
        held = await stock.look()
        if stock.has(version.digest):
            return
        syncer = self._syncers.get(version.syncer)
        if syncer is None:
            raise Invalid(self.refusal(stock, version), field="container", value=version.environment)
        if await self._room.make(need(version, held), named(version)):
            held = await stock.look()
        folder = self.folder(fetch.key)
        await self._in_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            await self._deliver(fetch, syncer, held, folder)
        except StorageFull:
            await self._in_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        except NotFound as error:
            raise PluginError(f"{named(version)}: {error.message}") from None
        image = HeldImage(digest=version.digest, size=version.size, environment=(version.environment, version.number))
        with contextlib.suppress(BackendAway):  # it has just taken the image
            await stock.look()
        if not stock.has(version.digest):
            stock.add(image)
        self._room.touch(version.digest)
        await self._in_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _deliver(self, fetch: _Fetch, syncer: Syncer, held: Held, folder: Path) -> None:
        version = fetch.version
        stored = stored_of(version)

        def progress(verb: str) -> Callable[..., None]:
            return from_any_thread(
                lambda note, done=None, total=None: fetch.tell(amount(f"{verb} {named(version)}", note, done, total))
            )

        while True:
            image: Image = await syncer.ensure(stored, held, folder, progress("fetching"))
            meant = replace(
                image, digest=version.digest, environment=version.environment, number=version.number, pull="missing"
            )
            try:
                await fetch.stock.backend.prepare(meant, progress("loading"))
            except NeedsLayers:
                if not held.chains:
                    raise
                held = Held()
            else:
                return


def _older(folder: Path, before: float) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.stat().st_mtime < before]


def named(version: WireVersion) -> str:
    """The version as people write it."""
    return f"{version.environment} v{version.number}"


def need(version: WireVersion, held: Held) -> int:
    """Bytes that it may take here: another version of the same environment, if there is one, has most layers."""
    near = [one.size for one in held.images.values() if one.environment and one.environment[0] == version.environment]
    return max(0, version.size - max(near, default=0))


def amount(what: str, note: str, done: int | None, total: int | None) -> str:
    """How far it is in words, with numbers where there are any."""
    if done is None or total is None or total <= 0:
        return f"{what}: {note}" if note else what
    unit, name = (MIB, "MB") if total >= MIB else (KIB, "kB")
    return f"{what}, {done // unit} of {-(-total // unit)} {name}"
