"""What interactive set-up of environments needs of a backend: containers that live on a builder until somebody deletes
them, terminals in them, and their files. Only what carries our label can be named.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Package, Version
from kohakuriver.hooks.values import Image


@dataclass(frozen=True, kw_only=True)
class EnvironmentContainer:
    """One of them. `base` is the digest of the image that it is made of."""

    name: str
    state: Literal["running", "stopped", "broken"]
    base: str
    #: the reference or version that it was made from, for people
    origin: str = ""
    created: datetime | None = None
    #: bytes written since it was made of its base; None: not known
    size: int | None = None
    #: terminals open in it
    shells: int = 0
    #: why it is broken
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file in a container, as lstat tells. Bytes that are no UTF-8 stand in `name` as surrogate escapes."""

    name: str
    kind: Literal["file", "directory", "link", "other"]
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified: datetime | None = None
    #: where a link points
    target: str = ""


class Terminal(Protocol):
    """A program on a terminal in a container. Closing it ends the program and what it started."""

    async def read(self, most: int) -> bytes:
        """What it printed; b"" when it has ended."""

    async def write(self, data: bytes) -> None:
        """What was typed; waits while the program takes nothing."""

    async def resize(self, columns: int, rows: int) -> None:
        """Tells it the size of the window. Raises nothing when it has ended."""

    async def wait(self) -> int:
        """The exit code. Raises PluginError when the engine cannot say."""

    async def close(self) -> None:
        """No process of it is left on return. May be called twice."""


class Files(Protocol):
    """Files of one container, running or not. Paths are absolute, in the container; a link on the way is followed there
    and never leaves it. Raises NotFound, Invalid for a path that cannot be, Conflict, PluginError.
    """

    async def stat(self, path: str) -> FileInfo: ...

    async def list(self, path: str) -> Sequence[FileInfo]:
        """The entries of a directory, by name; at most 10,000 (else Invalid)."""

    def read(self, path: str) -> AsyncIterator[bytes]:
        """The bytes of a regular file."""

    async def write(self, path: str, data: AsyncIterator[bytes], size: int, mode: int | None = None) -> None:
        """Replaces or makes a regular file of exactly `size` bytes; the owner stays, else it is root's."""

    async def mkdir(self, path: str) -> None: ...

    async def rename(self, path: str, to: str) -> None: ...

    async def delete(self, path: str, *, recursive: bool = False) -> None: ...


class Environments(Protocol):
    """The environment containers of one builder. Every method may be called again after a crash of its caller.

    One operation at a time on a container: a second one raises Conflict. Raises NotFound for a name that has none,
    PluginError with the engine's words, BackendAway.
    """

    async def list(self) -> Sequence[EnvironmentContainer]: ...

    async def create(self, name: str, image: Image, origin: str, progress: Progress) -> EnvironmentContainer:
        """Makes one of an image that `prepare` has made available, and starts it. Raises Conflict if there is one."""

    async def start(self, name: str) -> None:
        """Idempotent."""

    async def stop(self, name: str) -> None:
        """Idempotent; its files stay."""

    async def delete(self, name: str) -> None:
        """With everything in it. Idempotent for one that is gone: NotFound the second time."""

    async def commit(self, name: str, *, force: bool, progress: Progress) -> Package:
        """An image of the container as it is. It is stopped for that, and Conflict is raised if terminals are open in
        it, unless `force`. More than 99 layers are squashed into one. The image is kept until `settle` or `sweep`.
        """

    async def settle(self, name: str, version: Version) -> None:
        """After its package was published: the image gets the version's name, and the container is made anew of it,
        running if it ran before `commit`. Idempotent.
        """

    async def sweep(self, known: Mapping[str, Version]) -> None:
        """Removes what an interrupted commit, build or settle left; images of these versions (by digest) stay.
        Nothing that is not ours is looked at.
        """

    async def shell(
        self, name: str, argv: Sequence[str], *, columns: int, rows: int, env: Mapping[str, str]
    ) -> Terminal:
        """Starts a program on a terminal; an empty `argv` is the container's best shell. Raises Conflict when the
        container does not run.
        """

    def files(self, name: str) -> Files: ...

    async def build(self, context: Path, dockerfile: str, progress: Progress) -> Package:
        """Builds an image from a tar of the context; `progress` gets the log, a PluginError names the step."""

    async def take(self, archive: Path, progress: Progress) -> Package:
        """Loads the one image of a `docker save` archive, after it was checked member by member. Raises Invalid naming
        what is wrong with it; nothing of a refused archive reaches the engine. Names inside the archive are ignored.
        """
