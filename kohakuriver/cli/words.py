"""Single words of the command line as values: K=V, -g, --option. Raises Invalid that names the flag."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kohakuriver.errors import Invalid

LONGEST_SCRIPT = 131_072


def assignments(words: Sequence[str], flag: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """K=V as it stands, and K alone with its value from the environment, which no process list shows."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise Invalid("there is no name before the equals sign", field=flag, value=word, limit="K=V, or K alone")
        if not equals:
            if key not in environ:
                raise Invalid(f"{key} is not set in your environment", field=flag, value=word, limit="K=V, or K alone")
            value = environ[key]
        found[key] = value
    return found


def options(words: Sequence[str]) -> dict[str, Any]:
    """K=V for a backend; a value that is JSON counts as what it says, any other as text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise Invalid("an option has a name and a value", field="--option", value=word, limit="K=V")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def devices(word: str) -> dict[str, Any] | None:
    """`2`, `a6000`, `a6000:2` or `24GB`: a count, a model, both, or one card with that much memory. None for 0."""
    model, colon, count = word.partition(":")
    if word.isascii() and word.isdigit():
        return {"count": _count(word, word)} if int(word[:6]) else None
    if not colon and word[:1].isdigit():
        from kohakuriver.domain.units import parse_size

        return {"count": 1, "memory": parse_size(word, field="--gpus", least=1)}
    if not model or (colon and not count):
        raise Invalid("this is no wish for GPUs", field="--gpus", value=word, limit="2, a6000, a6000:2 or 24GB")
    return {"count": _count(count, word) if colon else 1, "model": model}


def script_text(word: str) -> str:
    """The script in a file, or in standard input for `-`."""
    try:
        data = sys.stdin.buffer.read(LONGEST_SCRIPT + 1) if word == "-" else Path(word).read_bytes()
    except OSError as error:
        raise Invalid(f"the script cannot be read: {error.strerror}", field="--script", value=word) from None
    if len(data) > LONGEST_SCRIPT:
        limit = f"at most {LONGEST_SCRIPT} bytes"
        raise Invalid("the script is too large; put it where the nodes can read it", field="--script", limit=limit)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Invalid("the script is not UTF-8 text", field="--script", value=word) from None
    if not text.strip() or "\0" in text:
        raise Invalid("the script is empty or no text", field="--script", value=word)
    return text


def secret_text(*, from_stdin: bool, prompt: str, field: str) -> str:
    """A password or token: one line of standard input, or typed unseen at the terminal. Never a word of a command."""
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        from getpass import getpass

        text = getpass(prompt)
    else:
        raise Invalid(f"there is no terminal to ask for it; give it on standard input with {field}", field=field)
    if not text:
        raise Invalid("nothing was given", field=field)
    return text


def _count(text: str, word: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 64:
        raise Invalid("this is no number of GPUs", field="--gpus", value=word, limit="1 to 64")
    return int(text)
