"""Writes new files for a person and never over another one's: configuration and units."""

import os
from pathlib import Path

from kohakuriver.errors import ConfigError, Conflict


def write_new(path: Path, text: str, *, mode: int) -> bool:
    """The file with its folders; False when it stands there already with the same text.

    Raises Conflict when it stands there with another text, ConfigError when it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        if _same(path, text):
            return False
        raise Conflict(
            f"{path} stands there already and is left as it is; move it away or name another place"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def _same(path: Path, text: str) -> bool:
    try:
        return path.is_file() and path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
