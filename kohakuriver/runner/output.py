"""Output of attempts while they run and until they are forgotten: offsets, caps, followers. Knows no link.

Few bytes stay in memory and ride in the report of the exit; more goes to segment files. A follower reads by offset,
from memory or from files, and never holds up the one who writes.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kohakuriver.hooks.values import Chunk, Offsets
from kohakuriver.runner.segments import Segments
from kohakuriver.runner.settings import OutputLimits
from kohakuriver.wire.link import MOST_INLINE_OUTPUT, Sealed

log = logging.getLogger(__name__)

InThread = Callable[..., Awaitable[Any]]
STREAMS = ("stdout", "stderr")


class Readable(Protocol):
    """A stream of output, live or ended."""

    @property
    def size(self) -> int: ...

    @property
    def ended(self) -> bool: ...

    async def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """The first kept bytes at or after the offset; empty when there are none now.

        Raises FileNotFoundError when they were removed meanwhile, as the attempt was forgotten.
        """

    async def more(self, offset: int) -> None:
        """Returns when there are bytes behind the offset, or the stream has ended."""


class LiveStream:
    """One stream of a run. Fed by one caller, read by many."""

    def __init__(self, segments: Segments, in_thread: InThread) -> None:
        self.segments = segments
        self.size = 0
        self.ended = False
        self.at_least = False
        self._in_thread = in_thread
        self._pending = bytearray()
        self._pending_at = 0
        self._grown = asyncio.Event()
        self._files = asyncio.Lock()
        self._refused = False

    async def load(self) -> None:
        """Goes on where the files of an earlier run end."""
        await self._in_thread(self.segments.load)
        self.size = self._pending_at = self.segments.end

    async def feed(self, chunk: Chunk) -> None:
        """Takes bytes at their offset; those that it has already are skipped. Never raises for a full disk."""
        data = chunk.data
        self.at_least = self.at_least or chunk.at_least
        if chunk.offset < self.size:
            data = data[self.size - chunk.offset :]
        offset = max(chunk.offset, self.size)
        if not data and offset == self.size:
            return
        if data and offset > self._pending_at + len(self._pending):
            await self.flush()
            self._pending_at = offset
        self._pending += data
        self.size = offset + len(data)
        self._wake()
        if len(self._pending) >= self.segments.limits.pending:
            await self.flush()

    async def flush(self) -> None:
        """Writes what is in memory to the files; what the disk does not take is dropped and counted by offset."""
        async with self._files:
            if not self._pending:
                return
            data = bytes(self._pending)
            try:
                await self._in_thread(self.segments.write, self._pending_at, data)
            except OSError as error:
                if not self._refused:
                    log.warning(
                        "output is dropped", extra={"directory": str(self.segments.directory), "error": str(error)}
                    )
                self._refused = True
            del self._pending[: len(data)]
            self._pending_at += len(data)

    async def read(self, offset: int, most: int) -> tuple[int, bytes]:
        async with self._files:
            if offset < self._pending_at:
                at, data = await self._in_thread(self.segments.read, offset, most)
                if data:
                    return at, data
                offset = self._pending_at
            skip = offset - self._pending_at
            return offset, bytes(self._pending[skip : skip + most])

    async def more(self, offset: int) -> None:
        while self.size <= offset and not self.ended:
            await self._grown.wait()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self._wake()

    def in_memory(self) -> int | None:
        """Bytes held in memory; None when some went to files."""
        return None if self.segments.parts else len(self._pending)

    async def seal(self, *, inline: bool) -> Sealed:
        """What is kept, at the end. `inline` puts the bytes into the answer."""
        if inline and not self.segments.parts:
            data, start = bytes(self._pending), self._pending_at
            if start and start + len(data) < self.size:  # neither a head nor a tail: the last bytes were dropped
                data = b""
            head, tail = (len(data), 0) if start == 0 else (0, len(data))
            return Sealed(size=self.size, head=head, tail=tail, at_least=self.at_least, data=data or None)
        await self.flush()
        async with self._files:
            await self._in_thread(_sync, self.segments)
            head, tail = self.segments.kept()
        if self.segments.end < self.size:  # the last bytes were refused by the disk: what is kept is no tail
            tail = 0
        return Sealed(size=self.size, head=head, tail=tail, at_least=self.at_least)

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Live:
    """Both streams of one run."""

    def __init__(self, directory: Path, limits: OutputLimits, in_thread: InThread) -> None:
        self.streams = {name: LiveStream(Segments(directory, name, limits), in_thread) for name in STREAMS}

    async def load(self) -> None:
        for stream in self.streams.values():
            await stream.load()

    @property
    def offsets(self) -> Offsets:
        """Where a backend reads on."""
        return Offsets(stdout=self.streams["stdout"].size, stderr=self.streams["stderr"].size)

    async def feed(self, chunk: Chunk) -> None:
        await self.streams[chunk.stream].feed(chunk)

    def uncertain(self) -> None:
        """The end of the output was not seen."""
        for stream in self.streams.values():
            stream.at_least = True

    def end(self) -> None:
        for stream in self.streams.values():
            stream.end()

    async def seal(self) -> tuple[Sealed, Sealed]:
        """Ends both streams and says what is kept. May be called again."""
        self.end()
        held = [stream.in_memory() for stream in self.streams.values()]
        inline = None not in held and sum(amount or 0 for amount in held) <= MOST_INLINE_OUTPUT
        return (
            await self.streams["stdout"].seal(inline=inline),
            await self.streams["stderr"].seal(inline=inline),
        )


class EndedStream:
    """A sealed stream, read from its report or its files."""

    ended = True

    def __init__(self, segments: Segments, sealed: Sealed, in_thread: InThread) -> None:
        self.segments = segments
        self.sealed = sealed
        self.size = sealed.size
        self._in_thread = in_thread

    async def read(self, offset: int, most: int) -> tuple[int, bytes]:
        sealed = self.sealed
        tail_at = sealed.size - sealed.tail
        if sealed.head <= offset < tail_at:
            offset = tail_at
        if offset >= sealed.size or not sealed.head + sealed.tail:
            return sealed.size, b""
        most = min(most, (sealed.head if offset < sealed.head else sealed.size) - offset)
        if sealed.data is not None:
            skip = offset if offset < sealed.head else sealed.head + offset - tail_at
            return offset, sealed.data[skip : skip + most]
        at, data = await self._in_thread(self.segments.read, offset, most)
        if at != offset or not data:
            raise FileNotFoundError(f"the output of {self.segments.directory.name} was removed while it was read")
        return at, data

    async def more(self, offset: int) -> None:
        del offset


class OutputStore:
    """Where the output of all attempts of this node lies."""

    def __init__(self, directory: Path, limits: OutputLimits, in_thread: InThread) -> None:
        self.directory = directory
        self.limits = limits
        self._in_thread = in_thread
        self._live: dict[str, Live] = {}

    async def live(self, attempt: str, *, fresh: bool = False) -> Live:
        """The output of an attempt that has not ended; goes on where its files end. `fresh`: there can be none yet."""
        found = self._live.get(attempt)
        if found is None:
            found = Live(self.directory / attempt, self.limits, self._in_thread)
            if not fresh:
                await found.load()
            found = self._live.setdefault(attempt, found)
        return found

    def close(self, attempt: str) -> None:
        """The attempt has ended and is sealed: its followers read on, nothing is kept in memory for others."""
        live = self._live.pop(attempt, None)
        if live is not None:
            live.end()

    async def ended(self, attempt: str, stream: str, sealed: Sealed) -> EndedStream:
        """A sealed stream for reading."""
        segments = Segments(self.directory / attempt, stream, self.limits)
        if sealed.data is None:
            await self._in_thread(segments.load)
        return EndedStream(segments, sealed, self._in_thread)

    async def remove(self, attempts: Mapping[str, Sequence[Path]]) -> None:
        """Deletes what is kept of these attempts, each with its directories. May be called twice."""
        for attempt in attempts:
            self.close(attempt)
        directories = [path for attempt, others in attempts.items() for path in (self.directory / attempt, *others)]
        await self._in_thread(_remove, directories)


def _remove(directories: Sequence[Path]) -> None:
    for directory in directories:
        try:
            directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # there is something in it
            shutil.rmtree(directory, ignore_errors=True)


def _sync(segments: Segments) -> None:
    """Best effort: output that cannot be synced is still there unless the machine dies now."""
    try:
        segments.sync()
    except OSError as error:
        log.warning("output cannot be synced", extra={"directory": str(segments.directory), "error": str(error)})
