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
LONGEST_WORDS = 200

#: whole strings, so that brackets inside them do not count, and single brackets
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_UNSPEAKABLE = re.compile("[\x00\ud800-\udfff]")
#: where it is wrong: at a value, or at a key of an object
_AT = re.compile(r" - at `(?:key` in `)?\$(.*)`$", re.DOTALL)
#: of a message that names a field in words
_NAMED = re.compile("(?:unknown|required) field `(.*?)`", re.DOTALL)
#: of a path such as `targets[3].name`
_STEPS = re.compile(r"[^.\[\]]+")
#: fields whose values are never said back
_SECRET = frozenset({"password", "old", "new", "secret", "secrets", "token"})


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
    given = _refuse_duplicates(data)
    try:
        value: T = decode(data, kind)
    except Invalid as error:
        raise _with_value(error, given) from None
    return value


def convert(value: object, kind: type[T]) -> T:
    """A tree of plain values as the struct, leniently typed for text (query strings, TOML). Raises Invalid."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _with_value(_invalid(error), value) from None


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


def _refuse_duplicates(data: bytes | str) -> object:
    try:
        value: object = json.loads(data, object_pairs_hook=_pairs)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if (b"\\u" in data) if isinstance(data, bytes) else ("\\u" in data):
        _refuse_unspeakable(value)
    return value


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
    at = _AT.search(text)
    message = _line(text if at is None else text[: at.start()])
    field = "" if at is None else at[1].lstrip(".")
    named = _NAMED.search(text)
    if named is not None:
        field = f"{field}.{shorten(named[1])}".lstrip(".")
    limit = message.removeprefix("Expected ").partition(", got ")[0] if message.startswith("Expected ") else None
    return Invalid(message, field=field or None, limit=limit)


def _line(text: str) -> str:
    """Words of msgspec, which quote names and values as they came."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def _with_value(error: Invalid, given: object) -> Invalid:
    """The same error with what was given, unless it may be a secret. Keys of objects are not named by msgspec."""
    value = given
    for step in _STEPS.findall(error.field or ""):
        if isinstance(value, dict) and step in value and step not in _SECRET:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return error
    if value is given or isinstance(value, dict | list):
        return error
    return Invalid(error.message, field=error.field, value=value, limit=error.limit)


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
