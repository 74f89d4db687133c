"""Files that only their owner may read: the credentials of a client. Knows JSON, not what is in it."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kohakuriver.errors import ConfigError

LARGEST = 64 * 1024
OTHERS = 0o077


def ignore(_message: str) -> None:
    """For a caller who has nobody to tell."""


def read_secret(path: Path, tell: Callable[[str], None] = ignore) -> str | None:
    """The text of the file, None without one. A file of ours that others may read is repaired and told of.

    Raises ConfigError when it is not ours and open to others, unreadable, or larger than 64 KiB.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  opened above, so that the mode is that of what is read
        _close_to_others(path, file.fileno(), tell)
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST} bytes; it holds no credential", limit=LARGEST)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; it holds no credential") from None


def read_record(path: Path, tell: Callable[[str], None] = ignore) -> dict[str, Any]:
    """The JSON object in the file, empty without one. Raises ConfigError as `read_secret`, and on other content."""
    text = read_secret(path, tell)
    if text is None:
        return {}
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ConfigError(f"{path} is damaged; remove it and sign in again: kohakuriver auth login")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace the file by this object, mode 0600, in one step. Raises ConfigError when that cannot be."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  made above with its mode
                file.write(json.dumps(record, indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _close_to_others(path: Path, descriptor: int, tell: Callable[[str], None]) -> None:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path} is not a file")
    if not facts.st_mode & OTHERS:
        return
    if facts.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} is open to others and not yours, so it is not used; its owner can close it: chmod 600 {path}",
            value=oct(stat.S_IMODE(facts.st_mode)),
            limit="0o600",
        )
    os.fchmod(descriptor, 0o600)
    tell(f"{path} could be read by others; its mode is 0600 now, and its token is better replaced")
