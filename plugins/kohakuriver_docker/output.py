"""A run's output as the contract wants it: from the attachment where there is one, else from the daemon's log.

The log is never followed (a follower loses bytes): it is read as a whole, now and then and after the end, and what
the reader has is skipped.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Offsets
from kohakuriver_docker.attached import ONE_READ, Attached
from kohakuriver_docker.container import Container
from kohakuriver_docker.engine import SHORT, Engine, EngineError, Unreachable
from kohakuriver_docker.frames import HEAD, Frames, Name

logger = logging.getLogger(__name__)

#: what the log keeps for certain: one full file of two
KEPT = 64 * 1024**2
#: from so much output on it is remembered with which message the log begins
MUCH = 8 * 1024**2
#: seconds between two looks at the log of what runs, and the share of the time that reading may take
LEAST_PAUSE, MOST_PAUSE, SHARE = 1.0, 60.0, 0.05
#: of a time stamp before a message, `2006-01-02T15:04:05.000000000Z`
STAMP = 30
LOGS = {"stdout": "1", "stderr": "1"}


class Reader:
    """Reads one container's output from given offsets on."""

    def __init__(
        self,
        engine: Engine,
        ctx: Context,
        look: Callable[[str], Awaitable[Container]],
        container: str,
        *,
        begins: Path,
        at: Offsets,
    ) -> None:
        """`look` describes a container; `begins` is a file that remembers the log's first message."""
        self._engine = engine
        self._ctx = ctx
        self._look = look
        self._container = container
        self._begins = begins
        self._has: dict[Name, int] = {"stdout": at.stdout, "stderr": at.stderr}
        self._remembered = False
        #: it ended while the daemon was away, and its last words went nowhere
        self._unseen = False

    async def chunks(self, attached: Attached | None) -> AsyncGenerator[Chunk, None]:
        """Ends after the last byte. An attachment is closed when the reader leaves."""
        if attached is not None:
            async with contextlib.aclosing(self._live(attached)) as live:
                async for chunk in live:
                    yield chunk
            with contextlib.suppress(Unreachable):
                if await self._is_over() and attached.undisturbed:
                    return
        async with contextlib.aclosing(self._from_log()) as logged:
            async for chunk in logged:
                yield chunk

    async def _live(self, attached: Attached) -> AsyncGenerator[Chunk, None]:
        try:
            async for name, data in attached.read():
                yield self._next(name, data)
                if not self._remembered and sum(self._has.values()) > MUCH:
                    self._remembered = True
                    with contextlib.suppress(PluginError):  # asked again when the log is read
                        await self._remember(await self._first_stamp())
        finally:
            await attached.close()

    def _next(self, name: Name, data: bytes, *, at_least: bool = False) -> Chunk:
        offset = self._has[name]
        self._has[name] += len(data)
        return Chunk(stream=name, offset=offset, data=data, at_least=at_least)

    async def _from_log(self) -> AsyncGenerator[Chunk, None]:
        pause = LEAST_PAUSE
        while True:
            try:
                over = await self._is_over()
                begun = time.monotonic()
                whole = await self._is_whole()
                if whole or over:
                    async with contextlib.aclosing(self._read(whole=whole)) as read:
                        async for chunk in read:
                            yield chunk
                if over:
                    for name in self._has if self._unseen else ():
                        yield self._next(name, b"", at_least=True)
                    return
                pause = min(MOST_PAUSE, max(LEAST_PAUSE, (time.monotonic() - begun) / SHARE))
                await self._until_over(pause)
            except EngineError as error:
                if error.status != 404:
                    raise
                for name in self._has:
                    yield self._next(name, b"", at_least=True)
                return
            except Unreachable:
                await asyncio.sleep(pause)

    async def _read(self, *, whole: bool) -> AsyncGenerator[Chunk, None]:
        """Once through the log. Of one that lost its beginning everything counts as new, and more may be missing."""
        skip = dict(self._has) if whole else {}
        if not whole:
            logger.warning("a log has lost its beginning", extra={"container": self._container})
        async with contextlib.aclosing(self._frames(Frames())) as parts:
            async for name, data in parts:
                over = min(skip.get(name, 0), len(data))
                skip[name] = skip.get(name, 0) - over
                if over < len(data):
                    yield self._next(name, data[over:], at_least=not whole)

    @contextlib.asynccontextmanager
    async def _log(self, **params: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The log from its beginning. Raises Unreachable when it does not begin to come."""
        stream = self._engine.stream("GET", f"/containers/{self._container}/logs", params={**LOGS, **params})
        async with contextlib.AsyncExitStack() as stack:
            async with _patience():
                response = await stack.enter_async_context(stream)
            yield response

    async def _frames(self, frames: Frames) -> AsyncGenerator[tuple[Name, bytes], None]:
        async with self._log() as response:
            while True:
                async with _patience():
                    data = await response.content.read(ONE_READ)
                if not data:
                    return
                for part in frames.feed(data):
                    yield part

    async def _is_whole(self) -> bool:
        """Whether the log still begins with its first message."""
        stamp = await self._first_stamp()
        known = await self._ctx.in_thread(_load, self._begins)
        if stamp is None or known == stamp:
            return True
        if known is not None:
            return False
        frames = Frames()
        async with contextlib.aclosing(self._frames(frames)) as parts:
            async for _ in parts:
                if frames.stored >= KEPT:
                    return False
        await self._remember(stamp)
        return True

    async def _first_stamp(self) -> str | None:
        async with self._log(timestamps="1") as response, _patience():
            data = b""
            while len(data) < HEAD + STAMP:
                more = await response.content.read(HEAD + STAMP - len(data))
                if not more:
                    return None
                data += more
            return data[HEAD:].decode(errors="replace")

    async def _remember(self, stamp: str | None) -> None:
        if stamp is not None:
            await self._ctx.in_thread(_save, self._begins, stamp)

    async def _is_over(self) -> bool:
        state = (await self._look(self._container)).state
        self._unseen = state.over and self._engine.was_away(state.finished)
        return state.over

    async def _until_over(self, limit: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(limit),
                self._engine.stream("POST", f"/containers/{self._container}/wait") as response,
            ):
                await response.read()


@contextlib.asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SHORT):
            yield
    except TimeoutError:
        raise Unreachable(f"Docker stopped in the middle of a log for {SHORT:g} s") from None


def _load(path: Path) -> str | None:
    try:
        return path.read_text() or None
    except FileNotFoundError:
        return None


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
