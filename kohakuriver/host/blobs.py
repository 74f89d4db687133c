"""The blob store: archived output as files below the data directory, written beside, synced and renamed."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kohakuriver.domain.attempts import parse_attempt
from kohakuriver.errors import StorageFull

InThread = Callable[..., Awaitable[Any]]


class Blob:
    """A file being written."""

    def __init__(self, file: "PartFile", name: Path, in_thread: InThread) -> None:
        self._file = file
        self._in_thread = in_thread
        #: its name inside the store
        self.name = name

    async def write(self, data: bytes) -> None:
        """All of the bytes. Raises StorageFull."""
        await self._in_thread(self._file.write, data)


class Blobs:
    """Files named by attempt and stream. `in_thread` runs a function on the pool for files."""

    def __init__(self, root: Path, in_thread: InThread) -> None:
        self._root = root
        self._in_thread = in_thread

    @asynccontextmanager
    async def writing(self, attempt: str, stream: str) -> AsyncIterator[Blob]:
        """A file that stands under its name after the block, whole and on the disk, or not at all. Raises ValueError
        for what is no attempt.
        """
        task, generation = parse_attempt(attempt)
        name = Path(f"{task % 100:02}") / f"{task}.{generation}.{stream}"
        path = self._root / name
        beside = path.with_suffix(path.suffix + ".part")
        file = PartFile(beside)
        try:
            await self._in_thread(file.open)
            yield Blob(file, name, self._in_thread)
            await self._in_thread(file.finish, path)
        except BaseException:
            await asyncio.shield(self._in_thread(file.drop))
            raise

    async def read(self, name: str, offset: int, count: int) -> bytes:
        """At most `count` bytes from the offset; b"" at the end."""
        data: bytes = await self._in_thread(_read, self._root / name, offset, count)
        return data

    async def remove(self, name: str) -> None:
        """No error if it is gone."""
        await self._in_thread(lambda: (self._root / name).unlink(missing_ok=True))


class PartFile:
    """A descriptor for one thread at a time. A thread that nobody waits for any more may still be at it when the file
    is dropped: the number is closed after it, and never used again once it may be somebody else's.
    """

    def __init__(self, path: Path, what: str = "the output archive") -> None:
        """`what` stands in the error of a full disk."""
        self._path = path
        self._what = what
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._dropped = False

    def open(self) -> None:
        """Makes it; once, and not any more when it was dropped before."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._lock:
            if not self._dropped:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self._path, flags, 0o600)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._lock:
            try:
                while view and self._descriptor is not None:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                raise StorageFull(f"{self._what} cannot be written: {error.strerror}") from None

    def finish(self, path: Path) -> None:
        """Puts it under its name, on the disk."""
        with self._lock:
            if self._descriptor is None:
                return
            os.fsync(self._descriptor)
            self._close()
            self._path.rename(path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def drop(self) -> None:
        """Removes it, unless it has its name already."""
        with self._lock:
            self._dropped = True
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _read(path: Path, offset: int, count: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.pread(file, count, offset)
    finally:
        os.close(file)
