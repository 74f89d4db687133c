"""What images are made of, as values that backends and syncers hand to each other. Knows no engine and no medium.

A layer is named by the SHA-256 of its uncompressed tar ("diff ID" in the OCI image specification), an image by the
SHA-256 of its configuration. Both stay the same wherever the image goes.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Progress

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: its diff ID, and the bytes of its uncompressed tar."""

    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Package:
    """What an image is made of, lowest layer first. `digest` is the SHA-256 of `config`, byte for byte."""

    digest: str
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def chains(self) -> tuple[str, ...]:
        """The chain ID of each layer: a layer on top of those below it (OCI image specification, layer ChainID)."""
        found: list[str] = []
        for layer in self.layers:
            found.append(chain(found[-1] if found else None, layer.digest))
        return tuple(found)


def chain(below: str | None, layer: str) -> str:
    """The name of a layer on top of what lies below it."""
    return layer if below is None else "sha256:" + hashlib.sha256(f"{below} {layer}".encode()).hexdigest()


class NeedsLayers(PluginError):
    """the bundle lacks layers that are needed here"""

    def __init__(self, message: str, layers: Collection[str]) -> None:
        """`layers` are the diff IDs of those that must be in the bundle before it is imported again."""
        super().__init__(message)
        self.layers = frozenset(layers)


@dataclass(frozen=True, kw_only=True)
class HeldImage:
    """An image on this node. `names` are the local ones, without anybody else's secrets."""

    digest: str
    names: tuple[str, ...] = ()
    size: int = 0
    created: datetime | None = None
    #: a container is made of it
    used: bool = False
    #: the environment and the number of the version as which it was fetched; None: not by us
    environment: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Held:
    """What lies on a node already: images by digest, and chains of layers that need not be fetched again."""

    images: Mapping[str, HeldImage] = field(default_factory=dict)
    chains: frozenset[str] = frozenset()

    def lacks(self, package: Package) -> tuple[Layer, ...]:
        """The layers of the package that are not here."""
        return tuple(
            layer for layer, name in zip(package.layers, package.chains, strict=True) if name not in self.chains
        )


class Packages(Protocol):
    """A backend's images as packages. Every method may be called again after a crash of its caller, and several times
    at once; cancelling one leaves nothing half-made in use.
    """

    async def held(self) -> Held:
        """What is here now. Raises BackendAway."""

    async def describe(self, image: str) -> Package:
        """The image with this digest or local name. Raises NotFound, BackendAway."""

    async def export(self, package: Package, layers: Collection[str], into: Path, progress: Progress) -> None:
        """Writes a bundle of the package with these layers into the folder, each verified against its digest.

        Raises PluginError when one cannot be read, StorageFull, BackendAway. What an earlier call left there is used
        again if it is right.
        """

    async def push(self, digest: str, reference: str, auth: str | None, progress: Progress) -> str:
        """Pushes to an OCI registry under `name:tag`; returns "name@sha256:…". Raises PluginError with the cause."""

    async def drop(self, digest: str) -> bool:
        """Removes an image that we fetched or made; False when something uses it or it is not ours. Idempotent."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """An immutable version of an environment: what a task names, and what a node must have."""

    environment: str
    number: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a syncer keeps a version. `locator` is the syncer's own, at most 4 KiB, without secrets."""

    version: Version
    locator: str
    #: bytes that it takes there
    size: int = 0
    created: datetime | None = None
    #: contents of the host's blob store that this version needs
    blobs: Sequence[str] = ()
    #: made by another system and only found there, such as the predecessor's archives
    foreign: bool = False
