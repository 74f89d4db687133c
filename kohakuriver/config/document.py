"""A TOML file as values with the line of every key. tomllib alone decides what TOML means; it tells no lines and stops
at its first error, so statements are also cut apart here to name each place and to find every error at once.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, ...]
LAST_ERROR = 20
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
#: a line that no array can hold: the bracket above it was never closed
_BEGINS = re.compile(r"[ \t]*([A-Za-z_][\w-]*[ \t]*=|\[{1,2}(?!true|false|inf|nan)[A-Za-z_][\w.-]*\]?)")
_AT_END = " (at end of document)"
_DELIMITERS = ('"""', "'''", '"', "'")


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a file says. `errors` are (line, sentence); with errors the values are what could still be read."""

    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Key, int] = field(default_factory=dict)
    errors: tuple[tuple[int, str], ...] = ()

    def line(self, *key: str) -> int:
        """The line of a key, or of the nearest thing that holds it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def read_document(text: str) -> Document:
    """Never raises: what cannot be read stands in `errors`."""
    survey = _Survey()
    for number, statement in _statements(text):
        survey.take(number, statement)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        errors = tuple(survey.errors[:LAST_ERROR]) or (_placed(error, 1, text),)
        return Document(values=survey.values, lines=survey.lines, errors=errors)
    return Document(values=values, lines=survey.lines)


class _Survey:
    """Goes through the statements one by one, past those that cannot be read."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.lines: dict[Key, int] = {}
        self.errors: list[tuple[int, str]] = []
        #: None below a header that could not be read: nobody knows where those keys belong
        self.section: Key | None = ()

    def take(self, number: int, statement: str) -> None:
        head = statement.startswith("[")
        try:
            value = tomllib.loads(statement)
            path = _path(statement)
        except (ValueError, RecursionError) as error:
            self.errors.append(_placed(error, number, statement))
            self.section = None if head else self.section
            return
        if head:
            self.section = path
        elif self.section is None:
            return
        place = path if head else (*(self.section or ()), *path)
        if place in self.lines and not statement.startswith("[["):
            what = "the section" if head else "the key"
            first = self.lines[place]
            self.errors.append((number, f"{what} {'.'.join(place)} stands twice, first at line {first}; keep one"))
            return
        self.lines.setdefault(place, number)
        self._put(place, {} if head else _inside(value, path))

    def _put(self, place: Key, value: object) -> None:
        here = self.values
        for name in place[:-1]:
            here = here.setdefault(name, {})
            if not isinstance(here, dict):
                return
        here.setdefault(place[-1], value)


def _inside(value: Any, path: Key) -> object:
    for name in path:
        value = value[name]
    return value


def _path(statement: str) -> Key:
    """The key of a single statement, which is known to be good."""
    at = 0
    while not statement.startswith("[") and statement[at] != "=":
        at = _end_of_string(statement, at) if statement[at] in "\"'" else at + 1
    here: Any = tomllib.loads(f"{statement[:at]}=0" if at else statement)
    path: list[str] = []
    while isinstance(here, dict) and here:
        name, here = next(iter(here.items()))
        path.append(name)
    return tuple(path)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements with the line on which each begins; comments and empty lines are left out."""
    begin = at = depth = 0
    line = 1
    while at < len(text):
        char = text[at]
        if char in "\"'":
            at = _end_of_string(text, at)
        elif char == "#":
            at = _end_of_line(text, at)
        elif char == "[" and not depth and not text[begin:at].strip():
            at = _end_of_header(text, at)
        else:
            depth = max(0, depth + (char == "[") - (char == "]"))
            at += 1
            if char == "\n" and (not depth or _BEGINS.match(text, at)):
                depth = 0
                yield from _statement(text[begin:at], line)
                line += text.count("\n", begin, at)
                begin = at
    yield from _statement(text[begin:], line)


def _statement(piece: str, line: int) -> Iterator[tuple[int, str]]:
    bare = piece.strip(" \t\r\n")
    if bare and not bare.startswith("#"):
        yield line, bare


def _end_of_header(text: str, at: int) -> int:
    while at < len(text) and text[at] != "\n":
        at = _end_of_string(text, at) if text[at] in "\"'" else _end_of_line(text, at) if text[at] == "#" else at + 1
    return at


def _end_of_string(text: str, at: int) -> int:
    """The place after the string; a string on one line that is never closed ends with its line."""
    mark = next(mark for mark in _DELIMITERS if text.startswith(mark, at))
    here = at + len(mark)
    while here < len(text):
        if len(mark) == 1 and text[here] == "\n":
            return here
        if text[here] == "\\" and mark[0] == '"':
            here += 2
            continue
        if text.startswith(mark, here):
            here += len(mark)
            while len(mark) == 3 and text.startswith(mark[0], here):
                here += 1
            return here
        here += 1
    return len(text)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _placed(error: ValueError | RecursionError, first: int, text: str) -> tuple[int, str]:
    """The line and the sentence of an error of tomllib in a piece that begins on line `first`."""
    if isinstance(error, RecursionError):
        return first, "it is nested too deeply"
    message = str(error)
    found = _AT_LINE.search(message)
    if found:
        line = first + int(found[1]) - 1
        message = message[: found.start()]
    else:
        line = first + text.rstrip("\n").count("\n")
        message = message.removesuffix(_AT_END)
    return line, f"not TOML: {message[:1].lower()}{message[1:]}"
