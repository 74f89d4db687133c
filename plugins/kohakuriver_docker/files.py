"""Files of an environment container, by descriptors of directories in it: the daemon is asked only where they are.

Its archive API holds the container's lock for as long as a slow reader or writer takes, so it is not used.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from kohakuriver.errors import Invalid
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.environments import FileInfo
from kohakuriver_docker import contents, entries
from kohakuriver_docker.contents import Reading, Writing
from kohakuriver_docker.rootfs import Place
from kohakuriver_docker.setups import Setup
from kohakuriver_docker.steps import Step

T = TypeVar("T")


class DockerFiles:
    """Those of one container. `find` gives it as it is, `changing` is entered for each change."""

    def __init__(
        self,
        ctx: Context,
        find: Callable[[], Awaitable[Setup]],
        changing: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._ctx = ctx
        self._find = find
        self._changing = changing

    async def stat(self, path: str) -> FileInfo:
        found: FileInfo = await self._do(entries.stat, path)
        return found

    async def list(self, path: str) -> Sequence[FileInfo]:
        found: Sequence[FileInfo] = await self._do(entries.list_folder, path)
        return found

    async def read(self, path: str) -> AsyncGenerator[bytes]:
        reading: Reading = await self._do(contents.reading, path, drop=Reading.close)
        try:
            while data := await self._ended(reading.some):
                yield data
        finally:
            reading.close()

    async def write(self, path: str, data: AsyncIterator[bytes], size: int, mode: int | None = None) -> None:
        if size < 0:
            raise Invalid("a file has a size of 0 bytes or more", field="size", value=size)
        async with self._changing():
            writing: Writing = await self._do(contents.writing, path, mode, drop=Writing.close)
            try:
                left = size
                async for piece in data:
                    left -= len(piece)
                    if left < 0:
                        break
                    await self._ended(writing.append, piece)
                if left:
                    much = "more" if left < 0 else str(size - left)
                    raise Invalid(f"the upload has not {size} bytes as was said, but {much}", field="size", value=size)
                await self._ended(writing.finish)
            finally:
                writing.close()

    async def mkdir(self, path: str) -> None:
        async with self._changing():
            await self._do(entries.mkdir, path)

    async def rename(self, path: str, to: str) -> None:
        async with self._changing():
            await self._do(entries.rename, path, to)

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        async with self._changing():
            await self._do(entries.delete, path, recursive)

    async def _do(
        self, call: Callable[..., Any], *arguments: object, drop: Callable[[Any], None] = lambda _: None
    ) -> Any:
        """In a thread, in the files as they are reached now. `drop` closes what comes when nobody waits any more."""
        found = await self._find()
        mountpoint = self._ctx.state / "root"
        return await self._ended(_call, call, _place(found), mountpoint, arguments, drop=drop)

    async def _ended(self, call: Callable[..., T], *arguments: object, drop: Callable[[T], None] = lambda _: None) -> T:
        """What the call answers, in a thread. Cancelled, this returns when no thread is in it, and drops the answer."""
        answers: list[T] = []

        def kept() -> T:
            answers.append(call(*arguments))
            return answers[0]

        try:
            return await Step(self._ctx.in_thread, lambda *_: None, "", 0).run(kept)
        except asyncio.CancelledError:
            for answer in answers:
                drop(answer)
            raise


async def small(files: DockerFiles, path: str, most: int) -> bytes:
    """The first bytes of a file."""
    data = b""
    async with contextlib.aclosing(files.read(path)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) >= most:
                break
    return data[:most]


def _call(call: Callable[..., Any], place: Place, mountpoint: Path, arguments: Sequence[object]) -> Any:
    mountpoint.mkdir(mode=0o700, exist_ok=True)
    return call(place, mountpoint, *arguments)


def _place(found: Setup) -> Place:
    data = found.driver.data or {}
    return Place(
        container=found.id,
        pid=found.state.pid if found.state.running else 0,
        driver=found.driver.name,
        lower=data.get("LowerDir", ""),
        upper=data.get("UpperDir", ""),
        work=data.get("WorkDir", ""),
    )
