"""The contents that versions are made of, as zstd files named by the SHA-256 of what is in them. Knows no version.

A file has its name only when it is whole, verified and on the disk. What no version needs goes while nobody publishes.
"""

import asyncio
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kohakuriver.errors import Conflict, Invalid, PluginError, StorageFull
from kohakuriver.hooks.bundles import unpack
from kohakuriver.hooks.packages import DIGEST
from kohakuriver.host.blobs import PartFile

log = logging.getLogger(__name__)

InThread = Callable[..., Awaitable[Any]]

#: bytes that are written at once
PIECE = 1 << 20
#: a content beyond this is no layer's
MOST_CONTENT = 1 << 40
WHAT = "the store of environments"


class Contents:
    """The files below one directory. `in_thread` runs what takes long on a pool of its own."""

    def __init__(self, root: Path, in_thread: InThread, *, floor: int) -> None:
        """`floor`: bytes that stay free on its disk."""
        self._root = root
        self._in_thread = in_thread
        self._floor = floor
        self._have: set[str] = set()
        self._coming: set[str] = set()
        #: nodes that publish, with how many operations
        self._publishing: Counter[int] = Counter()
        self._sweeping = asyncio.Lock()

    async def open(self) -> None:
        """Looks what is there, and removes what was not finished. Once, before anything else."""
        self._have = await self._in_thread(_look, self._root)

    def has(self, digest: str) -> bool:
        return digest in self._have

    def path(self, digest: str) -> Path:
        """Where a content lies. Raises Invalid for what is no digest."""
        if DIGEST.fullmatch(digest) is None:
            raise Invalid("that is no SHA-256 digest", field="digest", value=digest, limit="sha256:<64 hex digits>")
        return self._root / f"{digest.removeprefix('sha256:')}.zst"

    def publishes(self, node: int) -> bool:
        """Whether an operation under way asked this node to bring contents."""
        return self._publishing[node] > 0

    @asynccontextmanager
    async def publishing(self, node: int) -> AsyncIterator[None]:
        """While the node brings contents that no version names yet: none is removed."""
        async with self._sweeping:
            self._publishing[node] += 1
        try:
            yield
        finally:
            self._publishing[node] -= 1

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[bool]:
        """Whether nobody publishes; then nobody begins to within the block."""
        async with self._sweeping:
            yield not self._publishing.total()

    async def put(self, digest: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Takes a zstd file of `size` bytes whose content has this digest; returns when it is on the disk.

        Raises Conflict while the same digest comes already, Invalid for another content, StorageFull.
        """
        path = self.path(digest)
        if self.has(digest):
            return
        if digest in self._coming:
            raise Conflict("this content is being uploaded already; try again", field="digest", value=digest)
        self._coming.add(digest)
        try:
            await self._check_room(size)
            await self._take(path, digest, size, pieces)
            self._have.add(digest)
        finally:
            self._coming.discard(digest)

    async def sweep(self, needed: Callable[[], Collection[str]]) -> int:
        """Removes what nothing needs, unless something is being published; how many went."""
        async with self.quiet() as quiet:
            gone = self._have - set(needed()) if quiet else set()
            # from here on they are asked for again
            self._have -= gone
            await self._in_thread(_remove, [self.path(digest) for digest in gone])
        if gone:
            log.info("removed contents that no version needs", extra={"action": "sweep_contents", "count": len(gone)})
        return len(gone)

    async def _check_room(self, size: int) -> None:
        free = (await self._in_thread(_usage, self._root)).free
        if free - size < self._floor:
            raise StorageFull(
                f"{size} bytes do not fit: the host has {free} free and keeps {self._floor}", value=size, limit=free
            )

    async def _take(self, path: Path, digest: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        beside = path.with_suffix(".part")
        file = PartFile(beside, WHAT)
        try:
            await self._in_thread(file.open)
            async for data in _gathered(_counted(pieces, size)):
                await self._in_thread(self._write, file, data)
            await self._in_thread(_verify, beside, digest)
            await self._in_thread(file.finish, path)
        except BaseException as error:
            await asyncio.shield(self._in_thread(file.drop))
            if await asyncio.shield(self._in_thread(path.exists)):  # cancelled when it had its name already
                self._have.add(digest)
            if isinstance(error, OSError):
                raise StorageFull(f"{WHAT} cannot be written: {error.strerror}") from None
            raise

    def _write(self, file: PartFile, data: bytes) -> None:
        """What comes at the same time takes of the same room."""
        free = _usage(self._root).free
        if free - len(data) < self._floor:
            raise StorageFull(f"the host has {free} bytes free and keeps {self._floor}", limit=free)
        file.write(data)


async def _counted(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same pieces. Raises Invalid unless they are `size` bytes together."""
    came = 0
    async for piece in pieces:
        came += len(piece)
        if came > size:
            break
        yield piece
    if came != size:
        raise Invalid(f"{came} bytes came, and {size} were announced", field="Content-Length", value=size)


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces that are worth a thread's turn."""
    kept = bytearray()
    async for piece in pieces:
        kept += piece
        if len(kept) >= PIECE:
            yield bytes(kept)
            kept.clear()
    if kept:
        yield bytes(kept)


def _verify(path: Path, digest: str) -> None:
    hashed = hashlib.sha256()
    try:
        for piece in unpack(path, MOST_CONTENT):
            hashed.update(piece)
    except PluginError as error:
        raise Invalid(f"this is no zstd file: {error.message}", field="digest", value=digest) from None
    if hashed.hexdigest() != digest.removeprefix("sha256:"):
        raise Invalid(f"its content has the digest sha256:{hashed.hexdigest()}", field="digest", value=digest)


def _look(root: Path) -> set[str]:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = set()
    for path in root.iterdir():
        digest = f"sha256:{path.stem}"
        if path.suffix == ".zst" and DIGEST.fullmatch(digest) is not None:
            found.add(digest)
        elif path.suffix == ".part":
            path.unlink(missing_ok=True)
    return found


def _remove(paths: Collection[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _usage(root: Path) -> Any:
    return shutil.disk_usage(root)
