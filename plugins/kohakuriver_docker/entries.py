"""What is done with entries of a container's directories: looked at, made, renamed, deleted. Blocks.

Names are bytes; those that are no UTF-8 come and go as surrogate escapes.
"""

import errno
import itertools
import os
import shutil
import stat as modes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from kohakuriver.errors import Conflict, Invalid, NotFound, PluginError, shorten
from kohakuriver.hooks.environments import FileInfo
from kohakuriver_docker import rootfs
from kohakuriver_docker.rootfs import DIRECTORY, Place

MOST_ENTRIES = 10_000
LONGEST_PATH, LONGEST_NAME = 4095, 255
NEW_FOLDER = 0o755
#: what the kernel says of a path that cannot be what it is used as, and of one that is in the way
CANNOT_BE = (errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV)
IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY, errno.EBUSY, errno.ETXTBSY)


def split(path: str) -> tuple[bytes, bytes]:
    """The directory and the name in it; the name of the root is empty. Raises Invalid."""
    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Invalid("a path holds a character that no file can have", field="path", value=path) from None
    names = [name for name in data.split(b"/") if name not in (b"", b".")]
    if not data.startswith(b"/") or b"\0" in data or len(data) > LONGEST_PATH:
        raise Invalid("a path in a container begins with / and has at most 4095 bytes", field="path", value=path)
    if b".." in names:
        raise Invalid("name the path without ..", field="path", value=path)
    if any(len(name) > LONGEST_NAME for name in names):
        raise Invalid("a name in the path is too long", field="path", value=path, limit=f"{LONGEST_NAME} bytes")
    return (b"/" + b"/".join(names[:-1]), names[-1]) if names else (b"/", b"")


def stat(place: Place, mountpoint: Path, path: str) -> FileInfo:
    folder, name = split(path)
    with _folder(place, mountpoint, folder, path) as at:
        return _info(at, name or b".", "/" if not name else None)


def list_folder(place: Place, mountpoint: Path, path: str) -> Sequence[FileInfo]:
    folder, name = split(path)
    with _folder(place, mountpoint, folder + b"/" + name, path) as at:
        with os.scandir(at) as entries:
            names = [os.fsencode(entry.name) for entry in itertools.islice(entries, MOST_ENTRIES + 1)]
        if len(names) > MOST_ENTRIES:
            raise Invalid("that directory has too many entries", field="path", value=path, limit=MOST_ENTRIES)
        return [info for one in sorted(names) if (info := _maybe(at, one)) is not None]


def mkdir(place: Place, mountpoint: Path, path: str) -> None:
    """For everybody to enter and root to change, whatever this process's umask is."""
    folder, name = named(path)
    with _folder(place, mountpoint, folder, path, changing=True) as at:
        os.mkdir(name, NEW_FOLDER, dir_fd=at)
        made = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        try:
            os.fchmod(made, NEW_FOLDER)
        finally:
            os.close(made)


def rename(place: Place, mountpoint: Path, path: str, to: str) -> None:
    """Nothing is replaced."""
    folder, name = named(path)
    target, new = named(to)
    with (
        told(path),
        rootfs.opened(place, mountpoint, changing=True) as root,
        _at(root, folder) as at,
        _at(root, target) as beside,
    ):
        rootfs.rename(at, name, beside, new)


def delete(place: Place, mountpoint: Path, path: str, recursive: bool) -> None:
    """A link goes, never what it points to."""
    folder, name = named(path)
    with _folder(place, mountpoint, folder, path, changing=True) as at:
        if not modes.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
        elif recursive:
            shutil.rmtree(name, dir_fd=at)
        else:
            os.rmdir(name, dir_fd=at)


def named(path: str) -> tuple[bytes, bytes]:
    folder, name = split(path)
    if not name:
        raise Invalid("the root directory itself cannot be changed", field="path", value=path)
    return folder, name


@contextmanager
def _folder(place: Place, mountpoint: Path, folder: bytes, path: str, *, changing: bool = False) -> Iterator[int]:
    with told(path), rootfs.opened(place, mountpoint, changing=changing) as root, _at(root, folder) as at:
        yield at


@contextmanager
def _at(root: int, folder: bytes) -> Iterator[int]:
    at = rootfs.within(root, folder, DIRECTORY)
    try:
        yield at
    finally:
        os.close(at)


@contextmanager
def told(path: str) -> Iterator[None]:
    """The kernel's words as the contract's errors."""
    try:
        yield
    except RecursionError:
        raise PluginError(f"{shorten(path)} is nested too deep to be deleted at once") from None
    except OSError as error:
        words = f"{shorten(path)}: {os.strerror(error.errno or 0).lower()}"
        if error.errno == errno.ENOENT:
            raise NotFound(words) from None
        if error.errno in CANNOT_BE:
            raise Invalid(words, field="path", value=path) from None
        if error.errno in IN_THE_WAY:
            raise Conflict(words) from None
        raise PluginError(words) from None


def _maybe(at: int, name: bytes) -> FileInfo | None:
    try:
        return _info(at, name, None)
    except FileNotFoundError:  # it went meanwhile
        return None


def _info(at: int, name: bytes, shown: str | None) -> FileInfo:
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    kind = _kind(found.st_mode)
    return FileInfo(
        name=shown or name.decode("utf-8", "surrogateescape"),
        kind=kind,
        size=found.st_size,
        mode=modes.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        modified=datetime.fromtimestamp(found.st_mtime, UTC),
        target=os.readlink(name, dir_fd=at).decode("utf-8", "surrogateescape") if kind == "link" else "",
    )


def _kind(mode: int) -> Literal["file", "directory", "link", "other"]:
    if modes.S_ISREG(mode):
        return "file"
    if modes.S_ISDIR(mode):
        return "directory"
    return "link" if modes.S_ISLNK(mode) else "other"
