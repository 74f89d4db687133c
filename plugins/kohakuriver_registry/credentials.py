"""Who we are to the registry: from the configuration, or from what `docker login` has kept."""

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import RunCommand
from kohakuriver_registry.config import Settings

#: seconds that a credential helper may take
HELPER_LIMIT = 20.0
MOST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A user name with its password or token."""

    host: str
    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def for_engine(self) -> str:
        """As the Engine wants it in X-Registry-Auth."""
        words = {"username": self.username, "password": self.password, "serveraddress": self.host}
        return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()


def configured(settings: Settings, host: str) -> Credentials | None:
    """Those of the configuration. Blocks. Raises PluginError when the file cannot be read."""
    if not settings.username:
        return None
    try:
        with Path(settings.password_file).open() as file:
            password = file.read(MOST).partition("\n")[0].strip("\r")
    except (OSError, UnicodeError) as error:
        raise PluginError(f"[plugins.registry] password_file {settings.password_file}: {error}") from None
    return Credentials(host=host, username=settings.username, password=password)


def kept(settings: Settings, host: str) -> Credentials | str | None:
    """What Docker's client has kept for this host: credentials, or the name of a helper that has them. Blocks."""
    place = settings.docker_config or os.environ.get("DOCKER_CONFIG", "")
    path = Path(place) if place else Path.home() / ".docker"
    path = path / "config.json" if path.is_dir() else path
    try:
        with path.open("rb") as file:
            config: dict[str, Any] = json.loads(file.read(MOST))
        entry = config.get("auths", {}).get(host) or config.get("auths", {}).get(f"https://{host}") or {}
        helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
        if helper:
            return str(helper)
        username, _, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, binascii.Error) as error:
        raise PluginError(f"Docker's configuration {path} cannot be read: {error}") from None
    return Credentials(host=host, username=username, password=password) if username else None


async def ask_helper(name: str, host: str, run: RunCommand) -> Credentials | None:
    """What a credential helper has for this host. Raises PluginError when it fails."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise PluginError(f"{name[:40]!r} is no name of a credential helper")
    try:
        done = await run([f"docker-credential-{name}", "get"], limit=HELPER_LIMIT, input=host.encode())
    except (OSError, TimeoutError) as error:
        raise PluginError(f"docker-credential-{name} does not work: {error}") from None
    if done.code != 0:
        return None  # it has none for this host
    try:
        found = json.loads(done.stdout)
        return Credentials(host=host, username=str(found["Username"]), password=str(found["Secret"]))
    except (ValueError, KeyError, TypeError):
        raise PluginError(f"docker-credential-{name} answers with something else than credentials") from None
