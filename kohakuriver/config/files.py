"""Reading the configuration file itself: who may see it, what bytes it may hold. Knows no setting."""

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.config.document import Document, read_document
from kohakuriver.config.problems import BadConfig, Problem

LARGEST = 256 * 1024
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A file that was read; `mode` as stat has it."""

    path: Path
    mode: int
    document: Document

    def at(self, *key: str) -> str:
        """`path:line` of a key."""
        return f"{self.path}:{self.document.line(*key)}"

    def problems(self) -> list[Problem]:
        """What is wrong with it before any setting is looked at."""
        found = [Problem(where=f"{self.path}:{line}", key="", message=text) for line, text in self.document.errors]
        if self.mode & stat.S_IWOTH:
            found.append(self.problem(f"everybody may write to it; run: chmod o-w {self.path}"))
        return found

    def problem(self, message: str) -> Problem:
        """A finding about the file as a whole."""
        return Problem(where=str(self.path), key="", message=message)


def read_config_file(path: Path) -> ConfigFile:
    """The file's values and lines. Raises BadConfig when it cannot be read; syntax errors stand in the document."""
    try:
        data, mode = _read(path)
    except FileNotFoundError:
        raise _bad(path, "there is no such file; make one with: kohakuriver init config --generate") from None
    except OSError as error:
        raise _bad(path, f"it cannot be read: {(error.strerror or str(error)).lower()}") from None
    if data.startswith(_UTF16):
        raise _bad(path, "it is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise BadConfig([Problem(where=f"{path}:{line}", key="", message=message)]) from None
    return ConfigFile(path=path, mode=mode, document=read_document(text))


def _read(path: Path) -> tuple[bytes, int]:
    """Never waits for a pipe and never reads without end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise _bad(path, "it is not an ordinary file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise _bad(path, f"it is larger than {LARGEST} bytes")
    return data, about.st_mode


def _bad(path: Path, message: str) -> BadConfig:
    return BadConfig([Problem(where=str(path), key="", message=message)])
