"""The blob store: archived output as files below the data directory, written beside, synced and renamed."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kohakuriver.domain.tasks import parse_attempt
from kohakuriver.errors import StorageFull

InThread = Callable[..., Awaitable[Any]]


class Blob:
    """A file being written."""

    def __init__(self, file: int, name: Path, in_thread: InThread) -> None:
        self._file = file
        self._in_thread = in_thread
        #: its name inside the store
        self.name = name

    async def write(self, data: bytes) -> None:
        """All of the bytes. Raises StorageFull."""
        await self._in_thread(_write_all, self._file, data)


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
        file = await self._in_thread(_open, beside)
        try:
            yield Blob(file, name, self._in_thread)
            await self._in_thread(_finish, file, beside, path)
        except BaseException:
            await asyncio.shield(self._in_thread(_drop, file, beside))
            raise

    async def read(self, name: str, offset: int, count: int) -> bytes:
        """At most `count` bytes from the offset; b"" at the end."""
        data: bytes = await self._in_thread(_read, self._root / name, offset, count)
        return data

    async def remove(self, name: str) -> None:
        """No error if it is gone."""
        await self._in_thread(lambda: (self._root / name).unlink(missing_ok=True))


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        raise StorageFull(f"the output archive cannot be written: {error.strerror}") from None


def _finish(file: int, beside: Path, path: Path) -> None:
    os.fsync(file)
    os.close(file)
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _drop(file: int, beside: Path) -> None:
    try:
        os.close(file)
    except OSError:
        # closed already: the failure came after it
        return
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path, offset: int, count: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.pread(file, count, offset)
    finally:
        os.close(file)
