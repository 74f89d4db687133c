"""Environments as people name them, image references, and which versions may go. Knows no engine and no store.

A name is one component of Docker's grammar, an image reference that of the distribution project
(https://github.com/distribution/reference/blob/main/reference.go).
"""

import re
from collections.abc import Collection, Iterable
from typing import Final, Literal

from kohakuriver.errors import Invalid

LONGEST_NAME: Final = 63
LONGEST_IMAGE: Final = 255
#: digits of a version's number; a name with more is nobody's
LONGEST_NUMBER: Final = 18

Pull = Literal["missing", "always", "never"]

_SEPARATOR = r"(?:\.|_|__|-+)"
_COMPONENT = rf"[a-z0-9]+(?:{_SEPARATOR}[a-z0-9]+)*"
_NAME: Final = re.compile(_COMPONENT, re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]{{2,39}}\])(?::[0-9]{{1,5}})?", re.ASCII)
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_WORDS: Final = "lower-case letters and digits with single separators (. _ __ -) between them, at most 63"


def check_environment(text: str, field: str = "name") -> str:
    """The name, if it is one. Raises Invalid."""
    if len(text) > LONGEST_NAME or _NAME.fullmatch(text) is None:
        raise Invalid("that cannot be the name of an environment", field=field, value=text, limit=_WORDS)
    return text


def parse_version(text: str, field: str = "container") -> tuple[str, int | None]:
    """Name and number out of `NAME[:NUMBER]`; without a number the newest is meant. Raises Invalid."""
    name, colon, number = text.partition(":")
    check_environment(name, field)
    if not colon:
        return name, None
    return name, parse_number(number, field)


def parse_number(text: str, field: str = "version") -> int:
    """The number of a version: 1, 2, 3 … Raises Invalid."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER and not text.startswith("0")):
        raise Invalid("versions are counted 1, 2, 3 …", field=field, value=text, limit="NAME or NAME:NUMBER")
    return int(text)


def version_name(environment: str, number: int) -> str:
    """As people and tasks name a version."""
    return f"{environment}:{number}"


def check_image(text: str, field: str = "image") -> str:
    """The reference, if it is one: `[host[:port]/]name[:tag][@sha256:…]`. Raises Invalid."""
    rest, at, digest = text.partition("@")
    host, slash, path = rest.partition("/")
    if not slash or not _is_host(host):
        host, path = "", rest
    # a colon in the last component is the tag's; one before it belongs to the host alone
    name, colon, tag = path.rpartition(":") if ":" in path.rpartition("/")[2] else (path, "", "")
    fine = (
        len(host) + len(name) <= LONGEST_IMAGE
        and all(_NAME.fullmatch(part) is not None for part in name.split("/"))
        and (not host or _DOMAIN.fullmatch(host) is not None)
        and (not colon or _TAG.fullmatch(tag) is not None)
        and (not at or _DIGEST.fullmatch(digest) is not None)
    )
    if not fine:
        raise Invalid("that is no image reference", field=field, value=text, limit="such as debian:12 or host/name:tag")
    return text


def _is_host(text: str) -> bool:
    """What Docker takes for a registry's address rather than for a part of the name."""
    return "." in text or ":" in text or text == "localhost" or text != text.lower()


def surplus(numbers: Iterable[int], *, keep: int, used: Collection[int]) -> list[int]:
    """The versions that are beyond the newest `keep`, oldest first; 0 keeps all. Never one in use, nor the newest."""
    ordered = sorted(numbers)
    if keep <= 0:
        return []
    return [number for number in ordered[: max(0, len(ordered) - keep)] if number not in used]
