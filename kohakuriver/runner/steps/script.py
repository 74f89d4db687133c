"""The step that writes a task's script into its directory."""

import os
from collections.abc import Sequence
from pathlib import Path

SHELL = "/bin/sh"


def write_script(directory: Path, text: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Writes `script` (mode 0700) and returns the argument vector that runs it. Blocks; may be called again.

    Without a `#!` line the shell runs it.
    """
    path = directory / "script"
    fresh = directory / "script.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o700), "w", encoding="utf-8", newline="") as file:
        file.write(text)
    fresh.replace(path)
    start = (str(path),) if text.startswith("#!") else (SHELL, str(path))
    return (*start, *arguments)
