"""Settings of the plugin, as data."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from kohakuriver.errors import PluginError


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[plugins.nfs]`."""

    enabled: bool = True
    #: the shared directory as this node sees it; each node may have it elsewhere
    path: str = ""
    #: seconds without a byte after which the share is given up for now
    patience: Annotated[float, msgspec.Meta(ge=0.01)] = 60.0
    #: seconds after which another node's unfinished archive that nobody touched is removed
    stale: Annotated[float, msgspec.Meta(ge=0)] = 1800.0


def read(config: Mapping[str, Any]) -> Settings:
    """The settings from plain values. Raises PluginError for what is none."""
    try:
        settings = msgspec.convert(dict(config), Settings)
    except msgspec.ValidationError as error:
        raise PluginError(f"[plugins.nfs] cannot be used: {error}") from None
    if settings.path and not settings.path.startswith("/"):
        raise PluginError(f"[plugins.nfs] path is {settings.path!r}: it must be absolute")
    return settings
