"""Arrays: one submission that means many tasks, told apart by an index. `0-15%4`, `1,3,8-12:2`."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from kohakuriver.errors import Invalid

HIGHEST_INDEX: Final = 999_999
#: tasks that one submission may mean
MOST_ELEMENTS: Final = 5000
LONGEST_TEXT: Final = 1000
GRAMMAR: Final = "indices as 0-15, 1,3,8 or 0-20:5, and %N for at most N at once"

_PART = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ArrayWish:
    """What `--array` asked for: the indices in rising order, and how many of them may be under way at once."""

    indices: tuple[int, ...]
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Element:
    """One task's place in its array."""

    index: int
    least: int
    greatest: int
    count: int
    #: elements of the array that may hold a place at once; None: any number
    most: int | None = None


def parse_array(text: str, *, field: str = "array") -> ArrayWish:
    """The indices that the text means. Raises Invalid that says which part is wrong."""
    if len(text) > LONGEST_TEXT:
        raise _wrong("the array is too long a text", field, text, f"at most {LONGEST_TEXT} characters")
    listed, limited, most = text.partition("%")
    indices: list[int] = []
    for part in listed.split(","):
        found = _indices(part, field, text)
        if len(indices) + len(found) > MOST_ELEMENTS:
            raise _wrong("the array has too many tasks", field, text, f"at most {MOST_ELEMENTS}")
        indices += found
    twice, times = Counter(indices).most_common(1)[0]
    if times > 1:
        raise _wrong(f"index {twice} is given twice", field, text, "each index once")
    return ArrayWish(indices=tuple(sorted(indices)), most=_most(most, field, text) if limited else None)


def elements(wish: ArrayWish) -> tuple[Element, ...]:
    """The places that the wish means, in order."""
    least, greatest, count = wish.indices[0], wish.indices[-1], len(wish.indices)
    return tuple(
        Element(index=index, least=least, greatest=greatest, count=count, most=wish.most) for index in wish.indices
    )


def element_name(name: str, element: Element) -> str:
    """The name of one task of a named array."""
    return f"{name}[{element.index}]"


def _indices(part: str, field: str, text: str) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        raise _wrong(f"{part!r} is no index and no range of them", field, text, GRAMMAR)
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    step = 1 if found[3] is None else int(found[3])
    if last > HIGHEST_INDEX or first > HIGHEST_INDEX:
        raise _wrong("an index is too high", field, text, f"at most {HIGHEST_INDEX}")
    if last < first:
        raise _wrong(f"the range {part} runs backwards", field, text, GRAMMAR)
    if step == 0:
        raise _wrong(f"the range {part} has no step", field, text, "a step of 1 or more")
    return range(first, last + 1, step)


def _most(text: str, field: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST_ELEMENTS)) or int(text) < 1:
        raise _wrong("after % stands how many tasks may be under way at once", field, whole, "a number from 1 on")
    return int(text)


def _wrong(message: str, field: str, value: str, limit: str) -> Invalid:
    return Invalid(message, field=field, value=value, limit=limit)
