"""Settings of the plugin, as data."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from kohakuriver.errors import PluginError

#: HOST[:PORT]/NAME, the name in Docker's own grammar; a host has a dot or a port, or is localhost
REPOSITORY = re.compile(
    r"(?P<host>localhost(?::[0-9]{1,5})?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]{1,5})?|[A-Za-z0-9-]+:[0-9]{1,5})"
    r"/(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[plugins.registry]`."""

    enabled: bool = True
    #: below which each environment has a repository of its own, such as registry.lab:5000/environments
    repository: str = ""
    username: str = ""
    #: a file whose first line is the password or token
    password_file: str = ""
    #: where `docker login` keeps what it knows, for who sets no user name; empty: Docker's usual place
    docker_config: str = ""
    #: speak HTTP without TLS; None: with a registry on loopback alone, as Docker does
    plain_http: bool | None = None
    #: authorities to trust instead of the system's, as PEM
    ca_file: str = ""
    #: seconds without a byte after which the registry is given up for now
    patience: Annotated[float, msgspec.Meta(ge=0.01)] = 30.0


def read(config: Mapping[str, Any]) -> Settings:
    """The settings from plain values. Raises PluginError for what is none."""
    try:
        settings = msgspec.convert(dict(config), Settings)
    except msgspec.ValidationError as error:
        raise PluginError(f"[plugins.registry] cannot be used: {error}") from None
    if settings.repository and REPOSITORY.fullmatch(settings.repository) is None:
        raise PluginError(
            f"[plugins.registry] repository is {settings.repository!r}: it must be HOST/NAME, "
            "such as registry.lab:5000/environments"
        )
    if settings.username and not settings.password_file:
        raise PluginError("[plugins.registry] has a username and no password_file")
    return settings
