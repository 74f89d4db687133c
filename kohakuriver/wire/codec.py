"""How structs become bytes and back: strict for REST and config, lenient for link, journal and handles."""

import json
import re
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec

from kohakuriver.errors import Invalid, Malformed, TooLarge, shorten

T = TypeVar("T")

DEEPEST = 64

#: whole strings, so that brackets inside them do not count, and single brackets
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_UNSPEAKABLE = re.compile("[\x00\ud800-\udfff]")


def encode(value: object) -> bytes:
    """The value as JSON. Times are RFC 3339, bytes base64."""
    return _encoder().encode(value)


def decode(data: bytes | str, kind: Any, *, most: int | None = None) -> Any:
    """Reads one value leniently: unknown fields are ignored.

    Raises TooLarge above `most` bytes, Malformed when it is not JSON, Invalid when a field has the wrong type.
    """
    if most is not None and len(data) > most:
        raise TooLarge(f"message of {len(data)} bytes; at most {most}")
    try:
        return _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None


def decode_strict(data: bytes | str, kind: type[T]) -> T:
    """Reads one value of a request: duplicate keys, unknown fields (the struct forbids them), numbers out of range,
    NUL and halves of surrogate pairs in text, and more than 64 levels are refused. Raises Malformed or Invalid with
    the path of the field.
    """
    _refuse_deep(data)
    _refuse_duplicates(data)
    value: T = decode(data, kind)
    return value


def convert(value: object, kind: type[T]) -> T:
    """A tree of plain values as the struct, leniently typed for text (query strings, TOML). Raises Invalid."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def schema(kind: type) -> dict[str, Any]:
    """The JSON Schema of a struct."""
    return msgspec.json.schema(kind)


def _refuse_deep(data: bytes | str) -> None:
    text = data if isinstance(data, bytes) else data.encode(errors="surrogatepass")
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return
    level = 0
    for mark in _MARKS.findall(text):
        if mark in b"[{":
            level += 1
            if level > DEEPEST:
                raise Malformed(f"nested deeper than {DEEPEST} levels", limit=DEEPEST)
        elif mark in b"]}":
            level -= 1


def _refuse_duplicates(data: bytes | str) -> None:
    try:
        value = json.loads(data, object_pairs_hook=_pairs)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if (b"\\u" in data) if isinstance(data, bytes) else ("\\u" in data):
        _refuse_unspeakable(value)


def _pairs(items: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in items:
        if key in value:
            raise Malformed(f"the key {shorten(key)!r} stands twice", field=shorten(key))
        value[key] = item
    return value


def _refuse_unspeakable(value: object) -> None:
    if isinstance(value, str):
        if _UNSPEAKABLE.search(value):
            raise Malformed("text must not contain NUL or half a surrogate pair", value=value)
    elif isinstance(value, list):
        for item in value:
            _refuse_unspeakable(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unspeakable(key)
            _refuse_unspeakable(item)


def _invalid(error: msgspec.ValidationError) -> Invalid:
    text = str(error)
    message, at, path = text.partition(" - at `$")
    field = path.rstrip("`").lstrip(".") if at else None
    return Invalid(message, field=field or None)


@cache
def _encoder() -> msgspec.json.Encoder:
    return msgspec.json.Encoder(enc_hook=_enc_hook)


def _enc_hook(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def rfc3339(value: datetime) -> str:
    """The time as the API writes it: UTC, `Z`."""
    return value.isoformat().replace("+00:00", "Z")
