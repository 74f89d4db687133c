"""Sizes (8G) and durations (2h30m), read and written. A number without a unit is refused: nobody knows what it meant.

Sizes are powers of 1024, as Docker has them: 8G, 8GB and 8GiB are the same.
"""

import re
from typing import Final

from kohakuriver.errors import Invalid, shorten

KIB: Final = 1024
MIB: Final = KIB**2
GIB: Final = KIB**3
HIGHEST_SIZE: Final = (1 << 63) - 1
MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
#: a hundred years; whoever wants more wants no limit
LONGEST_DURATION: Final = 36_500 * DAY

SIZE_LIMIT: Final = "a number with B, K, M, G, T or P, such as 512M, 8G or 1.5G, below 8388608T"
DURATION_LIMIT: Final = "such as 90s, 2h30m, 1d, HH:MM:SS or D-HH:MM:SS, at most 36500d"

_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SECONDS: Final = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": 1}
_BILLION: Final = 10**9
_NUMBER: Final = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_SIZE: Final = re.compile(rf"({_NUMBER})(?:([KMGTP])(?:I?B)?|B)", re.IGNORECASE)
_DURATION: Final = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _SECONDS))
_CLOCK: Final = re.compile(r"(?:([0-9]{1,5})-)?([0-9]{1,6}):([0-9]{2}):([0-9]{2})")
_BARE: Final = re.compile(_NUMBER)


def parse_size(text: str, *, field: str = "memory", least: int = 0) -> int:
    """The bytes that the text names. Raises Invalid, for a number without a unit too."""
    if _BARE.fullmatch(text):
        message = f"{field} {text} has no unit: did you mean {text}M or {text}G?"
        raise Invalid(message, field=field, value=text, limit=SIZE_LIMIT)
    match = _SIZE.fullmatch(text)
    if match is None or not text.isascii():
        raise Invalid(f"{shorten(text)!r} is not a size", field=field, value=text, limit=SIZE_LIMIT)
    size, rest = divmod(_billionths(match[1]) << 10 * _POWERS[(match[2] or "").upper()], _BILLION)
    if size > HIGHEST_SIZE:
        raise Invalid(f"{field} {text} is too large", field=field, value=text, limit=SIZE_LIMIT)
    if size < least:
        message = f"{field} {text} is too small: at least {format_size(least)}"
        raise Invalid(message, field=field, value=text, limit=f"at least {format_size(least)}")
    if match[2] is None and rest:
        raise Invalid(f"{field} {text} is not a whole number of bytes", field=field, value=text, limit=SIZE_LIMIT)
    return size


def _billionths(number: str) -> int:
    """The number, which has nine decimals at most, in whole billionths."""
    whole, _, decimals = number.partition(".")
    return int(whole) * _BILLION + int(decimals.ljust(9, "0"))


def format_size(size: int) -> str:
    """The shortest exact text that `parse_size` reads back: 8G, 1536M, 8589934593B."""
    for unit, power in reversed(_POWERS.items()):
        if power and size and size % KIB**power == 0:
            return f"{size // KIB**power}{unit}"
    return f"{size}B"


def show_size(size: int) -> str:
    """The size for a sentence: 8 GiB, 7.5 GiB, and 7.9 GiB (8589934591 bytes) where the figure had to be cut."""
    amount = abs(size)
    sign = "-" if size < 0 else ""
    for unit, power in reversed(_POWERS.items()):
        if power and amount >= KIB**power:
            tenths, rest = divmod(amount * 10, KIB**power)
            figure = f"{sign}{tenths // 10}" + (f".{tenths % 10}" if tenths % 10 else "")
            return f"{figure} {unit}iB" + (f" ({size} bytes)" if rest else "")
    return "1 byte" if size == 1 else f"{size} bytes"


def parse_duration(text: str, *, field: str = "time_limit", least: int = 0) -> int:
    """The seconds that the text names. Raises Invalid, for a number without a unit too."""
    if _BARE.fullmatch(text):
        message = f"{field} {text} has no unit: did you mean {text}s, {text}m or {text}h?"
        raise Invalid(message, field=field, value=text, limit=DURATION_LIMIT)
    billionths = _clock(text) if ":" in text else _units(text)
    if billionths is None:
        raise Invalid(f"{shorten(text)!r} is not a duration", field=field, value=text, limit=DURATION_LIMIT)
    seconds, rest = divmod(billionths, _BILLION)
    if rest:
        raise Invalid(f"{field} {text} is not a whole number of seconds", field=field, value=text, limit=DURATION_LIMIT)
    if not least <= seconds <= LONGEST_DURATION:
        limit = f"{format_duration(least)} to {format_duration(LONGEST_DURATION)}"
        raise Invalid(f"{field} {text} is out of range: {limit}", field=field, value=text, limit=limit)
    return seconds


def _units(text: str) -> int | None:
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    return sum(_billionths(number) * unit for number, unit in parts if number is not None)


def _clock(text: str) -> int | None:
    """Slurm's D-HH:MM:SS and HH:MM:SS (sbatch(1), --time); its shorter forms are not read, for MM:SS misleads."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if minutes > 59 or seconds > 59 or (match[1] is not None and hours > 23):
        return None
    return (days * DAY + hours * HOUR + minutes * MINUTE + seconds) * _BILLION


def format_duration(seconds: int) -> str:
    """The text that `parse_duration` reads back: 2h30m, 1d, 0s. Weeks are written as days."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    text = ""
    for unit, length in _SECONDS.items():
        if unit != "w" and seconds >= length:
            count, seconds = divmod(seconds, length)
            text += f"{count}{unit}"
    return text or "0s"
