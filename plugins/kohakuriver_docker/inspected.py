"""An image as the daemon describes it."""

from typing import Any

import msgspec

from kohakuriver_docker.engine import LONG, Engine


class _RootFs(msgspec.Struct, frozen=True):
    layers: list[str] | None = msgspec.field(name="Layers", default=None)


class Inspected(msgspec.Struct, frozen=True):
    """Of `ImageInspect`."""

    id: str = msgspec.field(name="Id")
    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)
    config: dict[str, Any] | None = msgspec.field(name="Config", default=None)
    architecture: str = msgspec.field(name="Architecture", default="")
    variant: str = msgspec.field(name="Variant", default="")
    system: str = msgspec.field(name="Os", default="linux")
    author: str = msgspec.field(name="Author", default="")
    files: _RootFs = msgspec.field(name="RootFS", default_factory=_RootFs)

    @property
    def layers(self) -> list[str]:
        """Diff IDs, lowest first."""
        return self.files.layers or []

    def setting(self, key: str) -> Any:
        """Of its configuration; None when it has none."""
        return (self.config or {}).get(key)


async def inspect(engine: Engine, image: str) -> Inspected:
    """By digest or local name. Raises EngineError, with status 404 when it is not here."""
    return await engine.ask(Inspected, f"/images/{image}/json", limit=LONG)
