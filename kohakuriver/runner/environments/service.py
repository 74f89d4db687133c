"""Environments on this node, put together: what the rest of the runner asks, and what runs beside it."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kohakuriver.errors import BackendAway, KohakuRiverError, PluginError, TooLarge, Unreachable
from kohakuriver.hooks.backend import Backend, Progress
from kohakuriver.hooks.capabilities import CanPackage
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.hooks.values import Image
from kohakuriver.runner.clock import Clock, heed_cancellation
from kohakuriver.runner.environments import words
from kohakuriver.runner.environments.builder import Builder
from kohakuriver.runner.environments.channel import Channel
from kohakuriver.runner.environments.ensure import Ensurer, named
from kohakuriver.runner.environments.prune import DAY, EVERY_SECONDS, Room
from kohakuriver.runner.environments.stock import Stock
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.wire import codec
from kohakuriver.wire.environments import AnyAsk, Failure
from kohakuriver.wire.frames import MOST_RESULT, Kind
from kohakuriver.wire.link import Assign, WireVersion

log = logging.getLogger(__name__)

#: after the last frame the host closes; it may have to read much before
LINGER_SECONDS = 10.0
#: what a fetch left behind so long ago is of no use any more
STALE_SECONDS = 7 * DAY
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 1.0, 60.0


class EnvironmentService:
    """One a runner. `begin` comes before anything else."""

    def __init__(
        self,
        *,
        settings: RunnerSettings,
        journal: Journal,
        clock: Clock,
        in_thread: Callable[..., Awaitable[Any]],
        backends: Mapping[str, Backend],
        syncers: Mapping[str, Syncer],
        trouble: Callable[[str], str | None],
    ) -> None:
        """`trouble` says why the backend of this name cannot be used now; such a one is not asked by itself."""
        self._journal = journal
        self._clock = clock
        self._trouble = trouble
        self._in_thread = in_thread
        self._folder = settings.data_dir / "environments"
        self._stocks = {
            name: Stock(backend, backend.packages)
            for name, backend in backends.items()
            if isinstance(backend, CanPackage)
        }
        self._room = Room(
            place=self._folder,
            clock=clock,
            in_thread=in_thread,
            stocks=self._stocks,
            busy=self._busy,
            trouble=trouble,
            unused_seconds=settings.image_unused_days * DAY,
            floor=settings.image_disk_floor,
        )
        self._ensurer = Ensurer(syncers=syncers, room=self._room, folder=self._folder / "fetch", in_thread=in_thread)
        self._builder = Builder(
            node=settings.name,
            backends=backends,
            stocks=self._stocks,
            syncers=syncers,
            ensurer=self._ensurer,
            room=self._room,
            trouble=trouble,
            folder=self._folder,
            in_thread=in_thread,
        )

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Tidies up after a former life, and lets everything run in the group."""
        try:
            await self._in_thread(_tidy, self._folder)
            await self._ensurer.tidy(self._clock.wall().timestamp() - STALE_SECONDS)
        except OSError as error:  # what needs the folder says so then
            log.warning("the folder of environments cannot be tidied up", extra={"error": str(error)})
        await self._room.load()
        self._ensurer.begin(group)
        for stock in self._stocks.values():
            group.create_task(self._first_look(stock), name=f"images of {stock.backend.name}")
        if self._stocks:
            group.create_task(self._room.run(), name="prune images")
            group.create_task(self._tidy_up(), name="tidy up fetches")

    def refusal(self, backend: Backend, assign: Assign) -> str | None:
        """Why the environment of an assignment can never come here; None when it may, or it names none."""
        stock = self._stocks.get(backend.name)
        if assign.environment is None or stock is None:  # without a stock steps.job says so
            return None
        return self._ensurer.refusal(stock, assign.environment)

    async def prepare(self, backend: Backend, assign: Assign, image: Image, progress: Progress) -> None:
        """Makes the image of an assignment available, as Ensurer.ensure or Backend.prepare do."""
        if assign.environment is None:
            await backend.prepare(image, progress)
            return
        await self._ensurer.ensure(self._stocks[backend.name], assign.environment, progress, assign.pull)

    async def vanished(self, backend: Backend, version: WireVersion) -> bool:
        """Whether the image is gone, although it was thought to be there. Asks the backend."""
        try:
            held = await self._stocks[backend.name].look()
        except (KohakuRiverError, OSError):
            return False
        if version.digest in held.images:
            return False
        log.warning("an image has vanished and is fetched again", extra={"environment": named(version)})
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: str) -> None:
        """Serves one operation to its end, or until the other side is gone. Raises OSError when the stream broke."""
        channel = Channel(reader, writer, self._clock)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work(ask, channel))
            pumping = group.create_task(channel.pump())
            beside = [group.create_task(channel.tell()), group.create_task(channel.watch())]
            await asyncio.wait({working, pumping, beside[1]}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                beside[0].cancel()
                await asyncio.wait({pumping}, timeout=LINGER_SECONDS)
            for task in (working, pumping, *beside):
                task.cancel()

    async def _work(self, ask: str, channel: Channel) -> None:
        """Does what is asked and says how it went: the last frame."""
        try:
            payload = _encode(await self._builder.answer(codec.decode(ask, AnyAsk), channel))
        except KohakuRiverError as error:
            heed_cancellation()
            await channel.finish(Kind.ERROR, codec.encode(words.failure(error)))
        except (ConnectionError, TimeoutError) as error:
            heed_cancellation()
            away = Unreachable(f"the node did not get an answer: {error or 'it took too long'}")
            await channel.finish(Kind.ERROR, codec.encode(words.failure(away)))
        except Exception as error:  # whatever a plugin raises ends no runner: logged, and who asked is told
            heed_cancellation()
            log.exception("an operation crashed", extra={"ask": ask[:200]})
            internal = Failure(code=PluginError.code, message=f"the node failed: {error!r}"[:1000])
            await channel.finish(Kind.ERROR, codec.encode(internal))
        else:
            await channel.finish(Kind.RESULT, payload)

    async def _first_look(self, stock: Stock) -> None:
        """Learns what is there; until then each task asks."""
        wait = FIRST_LOOK_SECONDS
        while True:
            while self._trouble(stock.backend.name) is not None:
                await self._clock.sleep(LONGEST_LOOK_SECONDS)
            try:
                held = await stock.look()
            except BackendAway:
                await self._clock.sleep(wait)
                wait = min(2 * wait, LONGEST_LOOK_SECONDS)
            except Exception:  # a plugin's fault is its own: logged, and each task that needs it meets it again
                log.exception("a backend cannot say which images it has", extra={"backend": stock.backend.name})
                return
            else:
                names = {digest.removeprefix("sha256:") for digest in held.images}
                await self._in_thread(_drop_fetched, self._folder / "fetch" / stock.backend.name, names)
                return

    async def _tidy_up(self) -> None:
        """A runner may live for a year."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                await self._ensurer.tidy(self._clock.wall().timestamp() - STALE_SECONDS)
            except OSError as error:
                log.warning("what fetches left cannot be tidied up", extra={"error": str(error)})

    def _busy(self) -> frozenset[str]:
        """The images that attempts of this node name, or that are on their way."""
        named = {one.assign.environment.digest for one in self._journal.attempts.values() if one.assign.environment}
        return self._ensurer.digests | named


def _encode(result: msgspec.Struct) -> bytes:
    payload = codec.encode(result)
    if len(payload) > MOST_RESULT:
        raise TooLarge(f"the answer has {len(payload)} bytes", limit=MOST_RESULT)
    return payload


def _tidy(folder: Path) -> None:
    """Makes the folder, and removes what operations of a former life left; a fetch can go on from what it has."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("spool", "publish"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _drop_fetched(folder: Path, names: set[str]) -> None:
    """A death between loading an image and removing its folder leaves the folder."""
    for fetched in folder.glob("*"):
        if fetched.name in names:
            shutil.rmtree(fetched, ignore_errors=True)
