"""The step that writes a task's script into its directory."""

import os
from collections.abc import Sequence
from pathlib import Path

SHELL = "/bin/sh"


def script_argv(directory: Path, text: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """The argument vector that runs the script; without a `#!` line the shell runs it. Makes nothing."""
    path = str(directory / "script")
    return (path, *arguments) if text.startswith("#!") else (SHELL, path, *arguments)


def write_script(directory: Path, text: str, *, apart: bool = False) -> None:
    """Writes `script` (mode 0700). Blocks; may be called again. `apart`: it will be mounted, for whichever user the
    body has; the directory keeps all others of the node out.
    """
    fresh = directory / "script.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o700), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        if apart:
            os.fchmod(file.fileno(), 0o755)
    fresh.replace(directory / "script")
