"""Text of others, made harmless for a terminal: control characters are shown, never obeyed."""

import re

_BIDI = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
#: C0, DEL and C1 (ECMA-48), what turns the direction of text (UAX #9), line separators, lone surrogates, BOM
_UNSAFE = re.compile(rf"[\x00-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff\ufeff]")
_UNSAFE_IN_JSON = re.compile(rf"[\x7f-\x9f{_BIDI}\ud800-\udfff\ufeff]")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}


def clean(text: str) -> str:
    r"""One line without control characters; each is written as an escape such as \\e, \\x07 or \\u202e."""
    return _UNSAFE.sub(_escape, text)


def clean_lines(text: str) -> str:
    """As `clean`, but line ends stay."""
    return "\n".join(clean(line) for line in text.split("\n"))


def clean_json(text: str) -> str:
    """JSON text with the same meaning, in which no such character stands as itself."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
