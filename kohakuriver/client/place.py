"""Where the host is and who we are to it: flags, environment, what `auth login` kept, config.toml, the lab's file.

A credential that was kept for one host is never sent to another.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kohakuriver.client.secretfile import ignore, read_record, read_secret, write_record
from kohakuriver.errors import ConfigError, Invalid

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DIGITS = 64


class Wishes(NamedTuple):
    """What the command line says; None where it says nothing."""

    url: str | None = None
    host: str | None = None
    port: int | None = None
    token_file: str | None = None
    fingerprint: str | None = None


class Place(NamedTuple):
    """A host to speak to, and how it knows us."""

    url: str = DEFAULT_URL
    token: str | None = None
    fingerprint: str | None = None
    ca_file: str | None = None
    #: what named the URL, in words for error messages
    source: str = "the default"


class Surroundings(NamedTuple):
    """The environment and the files of the person who calls; tests hand in their own."""

    environ: Mapping[str, str]
    home: Path
    root: bool
    tell: Callable[[str], None] = ignore

    @property
    def kept(self) -> Path:
        """What `auth login` writes."""
        return self.home / ".kohakuriver" / "client.json"

    @property
    def lab(self) -> Path:
        """What `serve --role all` writes for the account that runs it."""
        return (Path("/var/lib/kohakuriver") if self.root else self.home / ".kohakuriver") / "lab.json"

    @property
    def config(self) -> Path:
        """The settings file."""
        named = self.environ.get("KOHAKURIVER_CONFIG")
        folder = Path("/etc/kohakuriver") if self.root else self.home / ".kohakuriver"
        return Path(named) if named else folder / "config.toml"


def my_surroundings(tell: Callable[[str], None] = ignore) -> Surroundings:
    """Those of this process."""
    home = os.environ.get("HOME") or str(Path("~").expanduser())
    return Surroundings(environ=os.environ, home=Path(home), root=os.geteuid() == 0, tell=tell)


def find_place(wishes: Wishes, around: Surroundings) -> Place:
    """The host and the credential that count. Raises Invalid or ConfigError naming what is wrong."""
    kept = read_record(around.kept, around.tell)
    settings = client_settings(around)
    lab: dict[str, Any] = {}
    url, source = _configured_url(wishes, around.environ, kept, settings)
    if url is None or not (kept or settings):
        lab = _lab(around)
        if url is None and lab:
            url, source = _text(lab, "url") or DEFAULT_URL, str(around.lab)
    url = clean_url(url or DEFAULT_URL, source)
    mine = kept if same_place(_text(kept, "url"), url) else {}
    at_lab = lab if same_place(_text(lab, "url"), url) else {}
    pin = wishes.fingerprint or around.environ.get("KOHAKURIVER_FINGERPRINT") or _text(mine, "fingerprint")
    pin = pin or _text(at_lab, "fingerprint")
    return Place(
        url=url,
        token=_given_token(wishes, around)
        or _text(mine, "token")
        or _configured_token(settings, around, url)
        or _text(at_lab, "token"),
        fingerprint=parse_fingerprint(pin) if pin else None,
        ca_file=_text(settings, "ca_file"),
        source=source,
    )


def clean_url(url: str, source: str = "--url") -> str:
    """`scheme://host[:port]` and nothing else. Raises Invalid."""
    example = "http://HOST:8000 or https://HOST:8000"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise Invalid(f"this URL of the host cannot be used: {error} ({source})", field="url", value=url) from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not url.isprintable():
        raise Invalid(f"this is not the URL of a host ({source})", field="url", value=url, limit=example)
    if parts.username is not None or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise Invalid(
            f"the URL of a host is scheme, name and port alone ({source})",
            field="url",
            value=parts.hostname,
            limit=example,
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def parse_fingerprint(text: str) -> str:
    """64 hex digits in lower case. Takes colons, spaces and a leading `sha256:`. Raises Invalid."""
    digits = text.strip().lower().removeprefix("sha256").replace(":", "").replace(" ", "").removeprefix("=")
    if len(digits) != DIGITS or set(digits) - set("0123456789abcdef"):
        raise Invalid(
            "this is not a SHA-256 fingerprint",
            field="fingerprint",
            value=text,
            limit=f"{DIGITS} hex digits, with or without colons",
        )
    return digits


def same_place(one: str | None, other: str | None) -> bool:
    """Whether both URLs lead to the same scheme, host and port."""
    return bool(one and other) and _essence(str(one)) == _essence(str(other))


def keep(around: Surroundings, place: Place, **facts: str | None) -> None:
    """Remember this host and credential for the next command. Raises ConfigError."""
    record = {"url": place.url, "token": place.token, "fingerprint": place.fingerprint, **facts}
    write_record(around.kept, {key: value for key, value in record.items() if value is not None})


def forget(around: Surroundings) -> bool:
    """Remove what was kept; False when nothing was."""
    try:
        around.kept.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{around.kept} cannot be removed: {error.strerror}") from None
    return True


def client_settings(around: Surroundings) -> dict[str, Any]:
    """`[client]` of config.toml with its environment variables; read without checking, `config check` does that."""
    names = ("url", "token", "token_file", "ca_file", "output")
    settings: dict[str, Any] = {}
    try:
        text = around.config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if "client" in text:
        import tomllib  # noqa: PLC0415  most clients have no such file, and each command pays for imports

        try:
            section = tomllib.loads(text).get("client")
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{around.config}: {error}; check it: kohakuriver config check") from None
        settings = dict(section) if isinstance(section, dict) else {}
    given = {name: around.environ.get(f"KOHAKURIVER__CLIENT__{name.upper()}") for name in names}
    return {**settings, **{name: value for name, value in given.items() if value}}


def _configured_url(
    wishes: Wishes, environ: Mapping[str, str], kept: dict[str, Any], settings: dict[str, Any]
) -> tuple[str | None, str]:
    """Flags, then environment, then what was kept, then settings."""
    if wishes.url:
        return wishes.url, "--url"
    if wishes.host or wishes.port is not None:
        name = wishes.host or environ.get("KOHAKURIVER_HOST") or "127.0.0.1"
        return _join(name, wishes.port or _port(environ), kept), "--host and --port"
    if environ.get("KOHAKURIVER_URL"):
        return environ["KOHAKURIVER_URL"], "KOHAKURIVER_URL"
    if environ.get("KOHAKURIVER_HOST") or environ.get("KOHAKURIVER_PORT"):
        name = environ.get("KOHAKURIVER_HOST") or "127.0.0.1"
        return _join(name, _port(environ), kept), "KOHAKURIVER_HOST and KOHAKURIVER_PORT"
    if url := _text(kept, "url"):
        return url, "kohakuriver auth login"
    if url := _text(settings, "url"):
        return url, "client.url"
    return None, "the default"


def _join(name: str, port: int | None, kept: dict[str, Any]) -> str:
    """The URL of a bare host name; with TLS where the host that we are signed in to has this name and speaks it."""
    if "://" in name:
        return name
    bracketed = f"[{name}]" if ":" in name and not name.startswith("[") else name
    plain, safe = (f"{scheme}://{bracketed}:{port or 8000}" for scheme in ("http", "https"))
    return safe if same_place(_text(kept, "url"), safe) else plain


def _port(environ: Mapping[str, str]) -> int | None:
    text = environ.get("KOHAKURIVER_PORT")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 65536:
        raise Invalid("this is no TCP port", field="KOHAKURIVER_PORT", value=text, limit="1 to 65535")
    return int(text)


def _given_token(wishes: Wishes, around: Surroundings) -> str | None:
    """A credential named for this very command: it goes to whatever host the command names."""
    if wishes.token_file:
        return _token_in(Path(wishes.token_file), around)
    if token := around.environ.get("KOHAKURIVER_TOKEN"):
        return check_token(token.strip(), "KOHAKURIVER_TOKEN")
    if file := around.environ.get("KOHAKURIVER_TOKEN_FILE"):
        return _token_in(Path(file), around)
    return None


def _configured_token(settings: dict[str, Any], around: Surroundings, url: str) -> str | None:
    if not same_place(_text(settings, "url") or DEFAULT_URL, url):
        return None
    if token := _text(settings, "token"):
        return check_token(token, "client.token")
    file = _text(settings, "token_file")
    return _token_in(Path(file).expanduser(), around) if file else None


def _token_in(path: Path, around: Surroundings) -> str:
    text = read_secret(path, around.tell)
    if text is None:
        raise ConfigError(f"there is no token file {path}", field="token_file", value=path)
    return check_token(text.strip(), str(path))


def check_token(token: str, source: str) -> str:
    """The token, if it may stand in a header. Raises ConfigError, which does not show it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{source} holds no token: one printable word is expected")
    return token


def _lab(around: Surroundings) -> dict[str, Any]:
    """The lab's file, if it is ours: another account's would send us, and our commands, to a host of its choice."""
    try:
        if around.lab.stat().st_uid != os.geteuid():
            return {}
    except OSError:
        return {}
    return read_record(around.lab, around.tell)


def _text(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) and value else None


def _essence(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").lower()
        return parts.scheme, "127.0.0.1" if name in LOOPBACK else name, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return url, "", None
