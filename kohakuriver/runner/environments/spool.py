"""What is uploaded for an operation lies in a file of its own until the operation ends."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from kohakuriver.errors import StorageFull, TooLarge
from kohakuriver.runner.environments.prune import MARGIN, free, mib

#: bytes that are written at once
PIECE = 4 * 1024**2
#: bytes after which the disk is looked at again
LOOK_EVERY = 64 * 1024**2
MOST_CONTEXT = 8 * 1024**3
MOST_ARCHIVE = 256 * 1024**3

InThread = Callable[..., Awaitable[Any]]


@contextlib.asynccontextmanager
async def folder(parent: Path, in_thread: InThread) -> AsyncIterator[Path]:
    """A fresh folder for the length of the block."""
    await in_thread(parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    made = _fresh(parent)  # here, and at once: made in a thread, it would be nobody's after a cancellation
    try:
        yield made
    finally:
        await in_thread(shutil.rmtree, made, ignore_errors=True)


def _fresh(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=parent))


async def spool(data: AsyncIterator[bytes], path: Path, most: int, in_thread: InThread) -> int:
    """Writes an upload into a file; returns its bytes. Raises TooLarge, and StorageFull while some room is left."""
    total, looked = 0, 0
    pending = bytearray()
    await _look(path, in_thread)
    async for piece in data:
        total += len(piece)
        if total > most:
            raise TooLarge(f"the upload has more than {mib(most)} MiB", limit=most)
        if total - looked >= LOOK_EVERY:
            looked = total
            await _look(path, in_thread)
        pending += piece
        if len(pending) >= PIECE:
            await in_thread(_append, path, bytes(pending))
            pending.clear()
    await in_thread(_append, path, bytes(pending))
    return total


async def pieces(path: Path, in_thread: InThread) -> AsyncIterator[bytes]:
    """The bytes of a file."""
    at = 0
    while data := await in_thread(_read, path, at):
        at += len(data)
        yield data


def carried(place: Path) -> int:
    """Bytes of the files in a folder. Blocks."""
    return sum(path.stat().st_size for path in place.iterdir() if path.is_file())


async def _look(path: Path, in_thread: InThread) -> None:
    left = await in_thread(free, path.parent)
    if left < MARGIN:
        raise StorageFull(f"{mib(left)} MiB are free under {path.parent.parent}, {mib(MARGIN)} MiB stay free")


def _append(path: Path, data: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise StorageFull(f"the upload cannot be kept: {error.strerror}") from None


def _read(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(PIECE)
