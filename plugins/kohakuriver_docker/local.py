"""Images as the daemon lists and describes them."""

import contextlib
from collections.abc import Collection, Mapping

import msgspec

from kohakuriver.errors import NotFound
from kohakuriver.hooks.packages import chain
from kohakuriver_docker.engine import Engine, EngineError

NOWHERE = "<none>"


class Listed(msgspec.Struct):
    """Of `ImageList`."""

    id: str = msgspec.field(name="Id")
    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)
    digests: list[str] | None = msgspec.field(name="RepoDigests", default=None)
    size: int = msgspec.field(name="Size", default=0)
    created: int = msgspec.field(name="Created", default=0)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self.tags or () if not name.startswith(NOWHERE))

    @property
    def pulled(self) -> tuple[str, ...]:
        """Names by the digest of a registry's manifest."""
        return tuple(name for name in self.digests or () if not name.startswith(NOWHERE))


class _RootFs(msgspec.Struct):
    layers: list[str] | None = msgspec.field(name="Layers", default=None)


class Inspected(msgspec.Struct):
    """Of `ImageInspect`."""

    id: str = msgspec.field(name="Id")
    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)
    size: int = msgspec.field(name="Size", default=0)
    rootfs: _RootFs = msgspec.field(name="RootFS", default_factory=_RootFs)

    @property
    def layers(self) -> tuple[str, ...]:
        """Diff IDs, the lowest first."""
        return tuple(self.rootfs.layers or ())


class _Container(msgspec.Struct):
    """Of `ContainerList`."""

    image: str = msgspec.field(name="ImageID", default="")


async def every(engine: Engine) -> list[Listed]:
    """All but those that others are only built upon."""
    return await engine.ask(list[Listed], "/images/json")


async def find(engine: Engine, name: str) -> Inspected:
    """The image with this digest or name. Raises NotFound, BackendAway."""
    try:
        return await engine.ask(Inspected, f"/images/{name}/json")
    except EngineError as error:
        if error.status == 404:
            raise NotFound(f"there is no image {name} on this node") from None
        raise


async def used(engine: Engine) -> frozenset[str]:
    """Digests of the images that containers are made of, whoever's they are."""
    containers = await engine.ask(list[_Container], "/containers/json", params={"all": "1"})
    return frozenset(container.image for container in containers)


async def name_it(engine: Engine, digest: str, name: str) -> None:
    """Gives an image a local name, which no other has then. Raises NotFound."""
    repository, tag = split(name)
    try:
        await engine.send("POST", f"/images/{digest}/tag", params={"repo": repository, "tag": tag})
    except EngineError as error:
        if error.status == 404:
            raise NotFound(f"there is no image {digest} on this node") from None
        raise


def split(reference: str) -> tuple[str, str]:
    """Name, and tag or digest."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


class Chains:
    """The chain IDs of the layers of each image here. They never change, so each image is asked about once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, frozenset[str]] = {}

    async def of(self, images: Collection[Listed]) -> Mapping[str, frozenset[str]]:
        """By digest, of all images that there are; one that has gone meanwhile is left out."""
        for image in images:
            if image.id not in self._known:
                with contextlib.suppress(NotFound):
                    layers = (await find(self._engine, image.id)).layers
                    self._known[image.id] = frozenset(chains(layers))
        self._known = {image.id: self._known[image.id] for image in images if image.id in self._known}
        return self._known


def chains(layers: Collection[str]) -> list[str]:
    """The chain IDs of these layers, the lowest first."""
    found: list[str] = []
    for layer in layers:
        found.append(chain(found[-1] if found else None, layer))
    return found
