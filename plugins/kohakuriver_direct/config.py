"""Settings of the plugin, as data."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from kohakuriver.errors import PluginError


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[plugins.direct]`."""

    enabled: bool = True
    #: layers that are moved at once
    at_once: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4


def read(config: Mapping[str, Any]) -> Settings:
    """The settings from plain values. Raises PluginError for what is none."""
    try:
        return msgspec.convert(dict(config), Settings)
    except msgspec.ValidationError as error:
        raise PluginError(f"[plugins.direct] cannot be used: {error}") from None
