"""One raw value, from TOML, a variable or a flag, into the type of its setting, and back into words."""

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kohakuriver.config.settings import Setting
from kohakuriver.domain.units import format_duration, format_size, parse_duration, parse_size
from kohakuriver.errors import Invalid, shorten

MOST_CPU = 4095
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_DATABASES = ("postgres", "postgresql")


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A value as it was given. `text`: it comes from a variable or a flag, where all is text."""

    value: object
    text: bool = False
    #: where relative paths begin; None refuses them
    folder: Path | None = None


def read_value(setting: Setting, raw: Raw) -> Any:
    """The value in the setting's type. Raises Invalid that says what was expected and what was given."""
    try:
        read = _FORMS[setting.form](raw)
        return msgspec.convert(read, setting.type, strict=not raw.text, dec_hook=_exact)
    except (ValueError, TypeError, Invalid, msgspec.ValidationError) as error:
        given = "what was given" if setting.secret else repr(shorten(_words(raw.value)))
        why = f" ({error})" if isinstance(error, _Reason) else ""
        raise Invalid(f"expected {expected(setting)}, not {given}{why}", field=setting.key) from None


def expected(setting: Setting) -> str:
    """What the setting takes, in words."""
    if setting.choices:
        return "one of " + ", ".join(setting.choices)
    if setting.form:
        return _EXPECTED[setting.form]
    least, greatest = setting.bounds
    span = f" from {least:g} to {greatest:g}" if least is not None and greatest is not None else ""
    return {bool: "true or false", int: f"a whole number{span}", float: f"a number{span}"}.get(
        setting.bare_type, "a text"
    )


def show_value(setting: Setting, value: object, *, secrets: bool = False) -> str:
    """The value as it would stand in the file; secrets only as `"…"` unless asked for."""
    if setting.secret and value and not secrets:
        return '"…"'
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if setting.form == "size":
        return _quoted(format_size(int(str(value))))
    if setting.form == "duration":
        return _quoted(format_duration(int(str(value))))
    if setting.form == "cpus" and isinstance(value, tuple):
        return _quoted(cpu_list(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(_quoted(str(item)) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_quoted(str(key))} = {_quoted(str(item))}" for key, item in sorted(value.items()))
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def read_scalar(text: str) -> Any:
    """A variable of a plugin's section: a TOML value if it is one, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        return text


def cpu_list(cpus: tuple[int, ...]) -> str:
    """(2, 3, 4, 7) as `2-4,7`."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


class _Reason(ValueError):
    """Carries a sentence that is worth showing."""


def _exact(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, Path):
        return value
    raise ValueError


def _plain(raw: Raw) -> object:
    if isinstance(raw.value, str) and any(ord(char) < 32 or ord(char) == 127 for char in raw.value):
        raise _Reason("it has control characters")
    return raw.value


def _size(raw: Raw) -> object:
    return _measure(raw, parse_size)


def _duration(raw: Raw) -> object:
    return _measure(raw, parse_duration)


def _measure(raw: Raw, parse: Callable[[str], int]) -> int:
    """Zero needs no unit; nobody knows what any other bare number meant."""
    if raw.value == "0" or (raw.value == 0 and type(raw.value) is int):
        return 0
    if type(raw.value) is int:
        raise _Reason("it has no unit")
    return parse(_text(raw))


def _path(raw: Raw) -> object:
    text = _text(raw)
    if not text:
        return None
    path = Path(text)
    if text == "~" or text.startswith("~/"):
        path = path.expanduser()
    if not path.is_absolute():
        if raw.folder is None:
            raise _Reason("it is relative")
        path = raw.folder / path
    return path


def _url(raw: Raw) -> object:
    text = _text(raw).rstrip("/")
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.path:
        raise ValueError
    if "@" in parts.netloc:
        raise _Reason("it may hold no credentials")
    _ = parts.port
    return text


def _address(raw: Raw) -> object:
    text = _text(raw)
    if text != "localhost":
        ipaddress.ip_address(text)
    return text


def _database(raw: Raw) -> object:
    text = _text(raw)
    if text and not (urlsplit(text).scheme in _DATABASES and urlsplit(text).hostname is not None):
        raise ValueError
    return text


def _name(raw: Raw) -> object:
    text = _text(raw)
    if text and (len(text) > 63 or not _NAME.fullmatch(text)):
        raise ValueError
    return text


def _labels(raw: Raw) -> object:
    value = raw.value
    if raw.text and isinstance(value, str):
        value = dict(part.strip().split("=", 1) for part in value.split(",") if part.strip())
    if not isinstance(value, Mapping):
        raise TypeError
    for key, item in value.items():
        if not (isinstance(item, str) and _LABEL.fullmatch(key) and _LABEL_VALUE.fullmatch(item)):
            raise _Reason(f"at {shorten(key)}")
    return dict(value)


def _list(raw: Raw) -> object:
    if raw.text and isinstance(raw.value, str):
        return [part.strip() for part in raw.value.split(",") if part.strip()]
    return raw.value


def _cpus(raw: Raw) -> object:
    if not isinstance(raw.value, str):
        items = raw.value if isinstance(raw.value, list) else None
        if items is None or not all(type(item) is int and 0 <= item <= MOST_CPU for item in items):
            raise ValueError
        return sorted(set(items))
    found: set[int] = set()
    for part in filter(None, (piece.strip() for piece in raw.value.split(","))):
        low, dash, high = part.partition("-")
        if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
            raise ValueError
        first, last = int(low[:6]), int((high if dash else low)[:6])
        if not first <= last <= MOST_CPU:
            raise ValueError
        found.update(range(first, last + 1))
    return sorted(found)


def _text(raw: Raw) -> str:
    value = _plain(raw)
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


def _words(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_FORMS: Mapping[str, Callable[[Raw], object]] = MappingProxyType(
    {
        "": _plain,
        "size": _size,
        "duration": _duration,
        "path": _path,
        "url": _url,
        "address": _address,
        "database": _database,
        "name": _name,
        "labels": _labels,
        "list": _list,
        "cpus": _cpus,
    }
)
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "size": 'a size such as "512M" or "8G"',
        "duration": 'a duration such as "30s" or "2h30m"',
        "path": "an absolute path, or one that begins with ~/",
        "url": "a URL such as https://host:8000, without a path",
        "address": "an IP address or localhost",
        "database": 'empty or a URL such as "postgres://user@host/name"',
        "name": "a host name: lower-case letters, digits, dots and hyphens, at most 63",
        "labels": 'a table of short words such as { room = "b12" }',
        "list": "a list of texts",
        "cpus": 'CPU numbers such as "2-7,10"',
    }
)
