"""YAML 1.2 as a superset of JSON: block style, strings plain where they cannot be anything else, else as JSON."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from kohakuriver.cli.clean import clean_json

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*")
#: words that some reader takes for a boolean, a null or a number (YAML 1.1 and 1.2)
_TAKEN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "none", "e"})


def emit(value: object) -> str:
    """The document, with a newline at its end."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _entry(f"{indent}{_scalar(str(key))}:", inner, indent)
    elif _is_list(value) and value:
        for inner in value:  # type: ignore[attr-defined]
            lines = list(_block(inner, indent + "  "))
            yield f"{indent}- {lines[0].lstrip(' ')}"
            yield from lines[1:]
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(head: str, inner: object, indent: str) -> Iterator[str]:
    if isinstance(inner, Mapping) and inner:
        yield head
        yield from _block(inner, indent + "  ")
    elif _is_list(inner) and inner:
        yield head
        yield from _block(inner, indent)
    else:
        yield f"{head} {_scalar(inner)}"


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _scalar(value: object) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if _is_list(value):
        return "[]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _TAKEN:
        return value
    return clean_json(json.dumps(value, ensure_ascii=False, default=str))
