"""Contents of files in a container, read and written by descriptors. Blocks.

A file is written beside the one that it replaces and then renamed: who reads it meanwhile sees the one or the other.
"""

import contextlib
import os
import secrets
import stat as modes
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.errors import Conflict, Invalid
from kohakuriver_docker import rootfs
from kohakuriver_docker.entries import named, split, told
from kohakuriver_docker.rootfs import DIRECTORY, Place

NEW_FILE = 0o644
PIECE = 256 * 1024
#: links that are followed one after the other, as the kernel does
MOST_LINKS = 40
#: bytes of a file that says it has none, such as those of /proc
UNTOLD = 1 << 20


@dataclass
class Reading:
    """A file that is read."""

    file: int
    left: int
    path: str

    def some(self) -> bytes:
        """b"" at its end; what it has grown by since it was opened is not read."""
        with told(self.path):
            data = os.read(self.file, min(PIECE, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        os.close(self.file)


def reading(place: Place, mountpoint: Path, path: str) -> Reading:
    """Raises NotFound, Invalid for what is no regular file."""
    folder, name = split(path)
    with told(path), rootfs.opened(place, mountpoint) as root:
        file = rootfs.within(root, folder + b"/" + name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        found = os.fstat(file)
        if not modes.S_ISREG(found.st_mode):
            os.close(file)
            raise Invalid("only the bytes of a regular file can be read", field="path", value=path)
        return Reading(file=file, left=found.st_size or UNTOLD, path=path)


@dataclass
class Writing:
    """A file that is written under a name of its own in the directory `at`."""

    at: int
    file: int
    part: bytes
    name: bytes

    def append(self, data: bytes) -> None:
        with told(os.fsdecode(self.name)):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.file, rest) :]

    def finish(self) -> None:
        """It has its name."""
        with told(os.fsdecode(self.name)):
            os.rename(self.part, self.name, src_dir_fd=self.at, dst_dir_fd=self.at)

    def close(self) -> None:
        """Nothing is left of it unless it was finished."""
        with contextlib.suppress(OSError):
            os.unlink(self.part, dir_fd=self.at)
        os.close(self.file)
        os.close(self.at)


def writing(place: Place, mountpoint: Path, path: str, mode: int | None) -> Writing:
    """What replaces it has its owner, and its mode unless another is given. Raises NotFound, Invalid, Conflict."""
    folder, name = named(path)
    with told(path), rootfs.opened(place, mountpoint, changing=True) as root:
        at, name, old = _target(root, folder, name, path)
        part = f".kr-{secrets.token_hex(8)}.part".encode()
        file = -1
        try:
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
            kept = NEW_FILE if old is None else modes.S_IMODE(old.st_mode)
            if old is not None:
                os.fchown(file, old.st_uid, old.st_gid)
            os.fchmod(file, kept if mode is None else mode & 0o7777)
        except BaseException:
            if file >= 0:
                os.unlink(part, dir_fd=at)
                os.close(file)
            os.close(at)
            raise
        return Writing(at=at, file=file, part=part, name=name)


def _target(root: int, folder: bytes, name: bytes, path: str) -> tuple[int, bytes, os.stat_result | None]:
    """The directory, the name in it and what is there, a link at the end followed as far as it goes."""
    for _ in range(MOST_LINKS):
        at = rootfs.within(root, folder, DIRECTORY)
        try:
            found = _lstat(at, name)
            if found is None or modes.S_ISREG(found.st_mode):
                return os.dup(at), name, found
            if not modes.S_ISLNK(found.st_mode):
                raise Conflict(f"{path}: there is something that is no regular file; delete it first")
            led = os.readlink(name, dir_fd=at)
        finally:
            os.close(at)
        folder, _, name = (led if led.startswith(b"/") else folder + b"/" + led).rpartition(b"/")
        folder = folder or b"/"
        if name in (b"", b".", b".."):
            raise Conflict(f"{path}: it leads to a directory")
    raise Invalid("too many links, one after the other", field="path", value=path)


def _lstat(at: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
