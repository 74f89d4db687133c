"""What a packaging wrote down about its container, in files of the runner's: whoever dies, the next life goes on.

A mark is there from before the container is stopped until it stands as it should again. When somebody changes the
container in between, the mark names none any more: it must not be made anew, but run again. Knows no engine.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kohakuriver.domain.environments import check_environment
from kohakuriver.hooks.context import Context


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Of one packaging."""

    #: id of the container that was packaged; "": it was changed since
    container: str
    #: whether it ran before
    ran: bool
    #: the image that came of it; "": none yet
    digest: str = ""


class Marks:
    """Those of one runner, by the name of the container."""

    def __init__(self, ctx: Context) -> None:
        self._folder = ctx.state / "environments"
        self._in_thread = ctx.in_thread

    async def read(self, name: str) -> Mark | None:
        found: Mark | None = await self._in_thread(_read, self._path(name))
        return found

    async def write(self, name: str, mark: Mark) -> None:
        """Whole and durable on return."""
        await self._in_thread(_write, self._path(name), msgspec.json.encode(mark))

    async def changed(self, name: str) -> None:
        """Somebody changes the container: it is not what was packaged any more. Idempotent."""
        mark = await self.read(name)
        if mark is not None and mark.container:
            await self.write(name, msgspec.structs.replace(mark, container=""))

    async def remove(self, name: str) -> None:
        """Idempotent."""
        await self._in_thread(_unlink, self._path(name))

    async def all(self) -> Mapping[str, Mark]:
        found: Mapping[str, Mark] = await self._in_thread(_all, self._folder)
        return found

    def _path(self, name: str) -> Path:
        check_environment(name)
        return self._folder / f"{name}.json"


def _read(path: Path) -> Mark | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _all(folder: Path) -> Mapping[str, Mark]:
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            mark = _read(path) if path.suffix == ".json" else None
            if mark is not None:
                found[path.stem] = mark
    return found
