"""Requests as typed values: query, body, parts of the path. Refuses what is too large, too slow or not text."""

import asyncio
import re
from functools import cache
from typing import Any

import msgspec
from aiohttp import web
from multidict import MultiMapping

from kohakuriver.errors import Invalid, Malformed, NotFound, TooLarge
from kohakuriver.web.problems import TooSlow, UnsupportedType
from kohakuriver.wire import api, codec

READ_SECONDS = 30.0
LONGEST_PART = 300
MOST_PARAMETERS = 100

_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


async def read_body(request: web.Request, kind: type[msgspec.Struct]) -> tuple[bytes, msgspec.Struct]:
    """The body as bytes and as a struct. An empty body stands for `{}` where every field has a default.

    Raises UnsupportedType, TooLarge, TooSlow, Malformed or Invalid.
    """
    raw = await read_bytes(request)
    if not raw:
        if needs_body(kind):
            raise Malformed("this needs a JSON body")
        return b"", kind()
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedType(value=request.headers.get("Content-Type"))
    return raw, codec.decode_strict(raw, kind)


async def read_bytes(request: web.Request) -> bytes:
    """The whole body."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedType("compressed bodies are not taken", field="Content-Encoding")
    if request.content_length is not None and request.content_length > api.MOST_BODY:
        raise TooLarge(f"a body of {request.content_length} bytes; at most {api.MOST_BODY}", limit=api.MOST_BODY)
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {READ_SECONDS:.0f} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {api.MOST_BODY} bytes", limit=api.MOST_BODY) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed(f"the body broke off: {error}") from None


@cache
def needs_body(kind: type[msgspec.Struct]) -> bool:
    """Whether some field has no default."""
    return any(field.required for field in msgspec.structs.fields(kind))


def read_query(given: "MultiMapping[str]", kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The query string as a struct. A list takes a parameter several times, or words with commas between them.

    Raises Invalid for unknown, doubled or unreadable parameters.
    """
    if not given and not needs_body(kind):
        return kind()
    if len(given) > MOST_PARAMETERS:
        raise Invalid(f"{len(given)} parameters; at most {MOST_PARAMETERS}", limit=MOST_PARAMETERS)
    fields = _fields(kind)
    values: dict[str, object] = {}
    for name in dict.fromkeys(given):
        field = fields.get(name)
        if field is None:
            known = ", ".join(fields) or "none"
            raise Invalid("there is no such parameter", field=name, limit=f"known here: {known}")
        values[name] = _parameter(name, given.getall(name), field)
    return codec.convert(values, kind)


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


@cache
def _kind(hint: Any) -> Any:
    return msgspec.inspect.type_info(hint)


def _parameter(name: str, texts: list[str], field: msgspec.structs.FieldInfo) -> object:
    if any(_UNSPEAKABLE.search(text) for text in texts):
        raise Invalid("control characters are not taken", field=name)
    kind = _kind(field.type)
    if isinstance(kind, msgspec.inspect.ListType):
        return [word for text in texts for word in text.split(",") if word]
    if len(texts) > 1:
        raise Invalid("given more than once", field=name)
    text = texts[0]
    if isinstance(kind, msgspec.inspect.BoolType) and not text:
        return True
    if text == "null" and not isinstance(kind, msgspec.inspect.StrType):
        raise Invalid("needs a value", field=name, value=text)
    return text


def check_parts(request: web.Request) -> None:
    """Raises NotFound for parts of the path that can be no name of anything."""
    for name, text in request.match_info.items():
        if len(text) > LONGEST_PART or _UNSPEAKABLE.search(text):
            raise NotFound(field=name, value=text)
