"""Spans: words of a command that stand for several values. `span:{0..3}`, `span:[a, b]`; `span:text` is the text.

Several of them mean every combination, the last changing fastest.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from kohakuriver.errors import Invalid

PREFIX = "span:"
GRAMMAR = "span:{0..3}, span:[a, b], or span:text for the text itself"

_RANGE = re.compile(r"\{(-?\d{1,9})\.\.(-?\d{1,9})\}", re.ASCII)


def values_of(word: str, *, field: str = "command") -> Sequence[object]:
    """What the word stands for, in order. Raises Invalid for a range that is none."""
    if not word.startswith(PREFIX):
        return (word,)
    text = word.removeprefix(PREFIX)
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return tuple(item.strip() for item in inner.split(",")) if inner else ()
    if not (text.startswith("{") and text.endswith("}")):
        return (text,)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise Invalid("this is no range of whole numbers", field=field, value=word, limit=GRAMMAR)
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise Invalid("this range runs backwards", field=field, value=word, limit=GRAMMAR)
    return range(first, last + 1)


def combinations(words: Sequence[str], *, most: int | None = None, field: str = "command") -> Iterator[tuple[str, ...]]:
    """Every command that the words mean; none where a list is empty. Raises Invalid when there are more than `most`."""
    values = [values_of(word, field=f"{field}[{number}]") for number, word in enumerate(words)]
    count = prod(map(len, values))
    if most is not None and count > most:
        raise Invalid("the spans mean too many combinations", field=field, value=count, limit=f"at most {most}")
    return (tuple(map(str, one)) for one in product(*values))
