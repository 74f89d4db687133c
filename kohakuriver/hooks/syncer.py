"""What a syncer is: it takes versions of environments from the builder to the nodes, whatever lies between them.

It delivers a verified file or a reference, and the backend imports it. `kohakuriver/testing/contracts/syncer.py` is the
same page as a test suite.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import RunCommand
from kohakuriver.hooks.packages import Held, Package, Packages, Stored, Version
from kohakuriver.hooks.values import Image, Probe


class Blobs(Protocol):
    """The host's store of contents, over the node's own authenticated connection. A content is named "sha256:…" by its
    bytes before compression, verified by both sides, and the same for ever.
    """

    async def missing(self, digests: Collection[str]) -> frozenset[str]:
        """Those that the host has not got. Raises Unreachable."""

    async def put(self, digest: str, path: Path, progress: Progress) -> None:
        """Uploads a zstd file whose content has this digest; nothing happens when the host has it.

        Raises Unreachable, PluginError when the host refuses it, such as for a full disk.
        """

    async def get(self, digest: str, into: Path, progress: Progress) -> None:
        """Downloads to a zstd file, going on where an earlier call was cut off, and verifies it.

        Raises Unreachable when the host does not answer, NotFound, StorageFull.
        """


@dataclass(frozen=True, kw_only=True)
class SyncContext:
    """A syncer's surroundings. `state` is its own directory, mode 0700, kept over restarts."""

    cluster: str
    node: str
    state: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    blobs: Blobs
    run: RunCommand
    in_thread: Callable[..., Awaitable[Any]]


class Syncer(ABC):
    """One way for versions to reach nodes. Lives on runners; several calls may be under way at once.

    Whatever line a process dies on, no reader ever sees a version that is not whole, and the next call works.
    """

    name: ClassVar[str]

    @abstractmethod
    async def open(self, ctx: SyncContext) -> None:
        """Called once before anything else. Raises PluginError only when nothing at all can work."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections and threads."""

    @abstractmethod
    async def probe(self) -> Probe:
        """Problems in words, such as a directory that is not mounted. Never raises for a missing medium."""

    @abstractmethod
    async def publish(
        self, version: Version, package: Package, packages: Packages, into: Path, progress: Progress
    ) -> Stored:
        """Makes the version available to every node; whole or not at all. Idempotent by version.

        `packages` exports what the medium lacks, into the empty folder `into`, which the caller removes afterwards.
        Raises PluginError with the cause, StorageFull, Unreachable.
        """

    @abstractmethod
    async def ensure(self, stored: Stored, held: Held, into: Path, progress: Progress) -> Image:
        """Brings what the node lacks and returns what its backend imports: a reference, or a bundle or archive in the
        folder `into`, verified against the digest of the version.

        What an earlier call left in `into` is used again if it is right. Raises PluginError naming the version and the
        cause when what is there is half-written, swapped, foreign or gone; StorageFull; Unreachable.
        """

    @abstractmethod
    async def list(self) -> Sequence[Stored]:
        """Every whole version on the medium, those of other systems too. A medium of the host's alone lists none."""

    @abstractmethod
    async def remove(self, stored: Stored) -> None:
        """Takes the version away; what other versions share stays. Idempotent. Refuses what is foreign: PluginError."""
