"""Ids that sort by time, how people shorten them, and which names are allowed. Knows no clock: the time is given.

An id is a positive 63-bit integer: 41 bits of milliseconds since 2024-01-01, 10 bits of node, 12 bits of sequence.
"""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final

from kohakuriver.errors import Invalid, shorten

EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH_MS: Final = int(EPOCH.timestamp() * 1000)
NODE_BITS: Final = 10
SEQUENCE_BITS: Final = 12
HIGHEST_NODE: Final = (1 << NODE_BITS) - 1
HIGHEST_SEQUENCE: Final = (1 << SEQUENCE_BITS) - 1
HIGHEST_ID: Final = (1 << 63) - 1
#: time-sorted ids share their beginnings, so people use the end; fewer digits would be guesses
SHORTEST_SUFFIX: Final = 4
LONGEST_USER_NAME: Final = 32

_SHIFT: Final = NODE_BITS + SEQUENCE_BITS
_HIGHEST_MS: Final = HIGHEST_ID >> _SHIFT
_PUNCTUATION: Final = frozenset(" ._-+@#=,")
#: letters and marks that show nothing (Default_Ignorable_Code_Point, Unicode 15, outside category Cf)
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)


def next_id(last: int, now_ms: int, node: int) -> int:
    """The id after `last`, always greater: also when the clock stepped back or the millisecond is used up.

    `now_ms` counts from 1970. Raises ValueError for a node outside 0..1023, a negative `last`, and when the 41 bits of
    time are used up (in 2093).
    """
    if not 0 <= node <= HIGHEST_NODE or last < 0:
        raise ValueError(f"node {node} or last id {last} is out of range")
    elapsed = max(now_ms - EPOCH_MS, last >> _SHIFT, 0)
    new = _join(elapsed, node, 0)
    if new <= last:
        same_node = (last >> SEQUENCE_BITS) & HIGHEST_NODE == node
        used_up = last & HIGHEST_SEQUENCE == HIGHEST_SEQUENCE
        new = last + 1 if same_node and not used_up else _join(elapsed + 1, node, 0)
    if new > HIGHEST_ID:
        raise ValueError("the time is beyond what an id can hold; look at the clock of this machine")
    return new


def _join(elapsed: int, node: int, sequence: int) -> int:
    return elapsed << _SHIFT | node << SEQUENCE_BITS | sequence


def time_of(id: int) -> datetime:
    """When the id was made, in UTC, to the millisecond. Raises ValueError for what is no id."""
    if not 0 <= id <= HIGHEST_ID:
        raise ValueError(f"{id} is not an id")
    return EPOCH + timedelta(milliseconds=id >> _SHIFT)


def parse_id(text: str, *, field: str = "id") -> int:
    """The id that the text is in full. Raises Invalid."""
    if not _digits(text) or len(text) > len(str(HIGHEST_ID)) or text[0] == "0" or int(text) > HIGHEST_ID:
        raise Invalid(f"{shorten(text)!r} is not an id", field=field, value=text, limit=f"1 to {HIGHEST_ID}")
    return int(text)


def matches_suffix(id: int, text: str) -> bool:
    """Whether people may mean this id by the text: its last four digits or more. The caller sees to uniqueness."""
    return _digits(text) and len(text) >= SHORTEST_SUFFIX and str(id).endswith(text)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def check_name(text: str, field: str, longest: int) -> str:
    """The name in Unicode's composed form (NFC). Raises Invalid.

    Letters, marks and digits of any script, spaces inside, and `._-+@#=,`; it begins with a letter or a digit and is
    not digits alone, for that would read as an id. So there are no controls, no bidi or zero-width characters and no
    path separators in it.
    """
    limit = f"1 to {longest} letters, digits, spaces and ._-+@#=, and not digits alone"
    # four characters at most compose into one: a longer text is refused before any work is done on it
    name = unicodedata.normalize("NFC", text) if len(text) <= 4 * longest else text
    if not 0 < len(name) <= longest:
        raise Invalid(f"{field} must have 1 to {longest} characters", field=field, value=text, limit=limit)
    for character in name:
        if not _in_name(character):
            word = f"U+{ord(character):04X}"
            raise Invalid(f"{field} must not contain the character {word}", field=field, value=text, limit=limit)
    if unicodedata.category(name[0])[0] not in "LN" or name[-1] == " ":
        message = f"{field} must begin with a letter or a digit and not end with a space"
        raise Invalid(message, field=field, value=text, limit=limit)
    if all(unicodedata.category(character)[0] == "N" for character in name):
        raise Invalid(f"{field} must not be digits alone: it would read as an id", field=field, value=text, limit=limit)
    return name


def _in_name(character: str) -> bool:
    if character in _PUNCTUATION:
        return True
    return unicodedata.category(character)[0] in "LMN" and character not in _INVISIBLE


def check_user_name(text: str, field: str = "name", longest: int = LONGEST_USER_NAME) -> str:
    """The user name. Narrower than `check_name`, so that it serves in SSH and as a folder: a-z, 0-9 and `._-`.

    It begins with a letter and does not end with a dot. Raises Invalid.
    """
    fine = set("abcdefghijklmnopqrstuvwxyz0123456789._-").issuperset(text)
    if not 0 < len(text) <= longest or not fine or not text[0].isalpha() or text[-1] == ".":
        raise Invalid(
            f"{shorten(text)!r} is not a user name: lower-case letters, digits and ._- after a first letter",
            field=field,
            value=text,
            limit=f"1 to {longest} of a-z, 0-9, dot, hyphen and underscore",
        )
    return text
