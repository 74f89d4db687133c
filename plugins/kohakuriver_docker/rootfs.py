"""The files of a container as its own programs see them, by descriptors of directories: no path ever leaves its root.

Each path is resolved by the kernel with the container's root as its root (openat2(2), RESOLVE_IN_ROOT). Of a container
that does not run, the root is mounted for nobody but this process and goes with the last descriptor. Blocks.
"""

import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.errors import PluginError

#: of linux/openat2.h and asm-generic/unistd.h: the same on every architecture
OPENAT2, RESOLVE_IN_ROOT = 437, 0x10
#: of linux/sched.h, linux/mount.h
CLONE_NEWNS, CLONE_FS = 0x00020000, 0x00000200
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
#: of linux/fs.h
RENAME_NOREPLACE, AT_FDCWD = 1, -100
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: the kernel gives up on .. in a path while anything is mounted or renamed anywhere, and says to try again
TRIES, PAUSE = 1000, 0.002
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where a container's files are: the first process while it runs, and what its root is mounted from otherwise."""

    container: str
    pid: int
    driver: str
    lower: str = ""
    upper: str = ""
    work: str = ""


class _OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@contextmanager
def opened(place: Place, mountpoint: Path, *, changing: bool = False) -> Iterator[int]:
    """A descriptor of the root. `mountpoint` is an empty directory of ours, on which nothing is ever seen mounted.

    Only who is `changing` something, and lets nobody start the container meanwhile, may write. Raises PluginError when
    this process cannot get there.
    """
    try:
        root = _root_of(place) if place.pid else _mounted(place, mountpoint, changing)
    except OSError as error:
        raise PluginError(f"the files of the container cannot be reached: {error}; is this runner root here?") from None
    try:
        yield root
    finally:
        os.close(root)


def within(root: int, path: bytes, flags: int) -> int:
    """A descriptor of what the path leads to in there, links followed. Raises OSError."""
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=0, resolve=RESOLVE_IN_ROOT)
    for _ in range(TRIES):
        found = LIBC.syscall(OPENAT2, root, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        if ctypes.get_errno() != errno.EAGAIN:
            break
        time.sleep(PAUSE)
    raise _error(path)


def rename(source: int, name: bytes, target: int, to: bytes) -> None:
    """From one directory to another; nothing is replaced. Raises OSError, such as EEXIST (renameat2(2))."""
    if LIBC.renameat2(source, ctypes.c_char_p(name), target, ctypes.c_char_p(to), RENAME_NOREPLACE) != 0:
        raise _error(to)


def _root_of(place: Place) -> int:
    root = os.open(f"/proc/{place.pid}/root", DIRECTORY)
    try:
        groups = Path(f"/proc/{place.pid}/cgroup").read_text()
    except OSError:
        os.close(root)
        raise
    if place.container not in groups:
        os.close(root)
        raise OSError(errno.ESRCH, "its first process is not one of this machine's")
    return root


def _mounted(place: Place, mountpoint: Path, changing: bool) -> int:
    if place.driver != "overlay2":
        raise PluginError(
            f"files of a stopped container cannot be reached with storage driver {place.driver}: start it"
        )
    found: list[int] = []
    failed: list[BaseException] = []

    def mount() -> None:
        try:
            found.append(_mount_alone(place, mountpoint, changing))
        except Exception as error:  # noqa: BLE001 -- of another thread; raised in this one
            failed.append(error)

    _in_thread_of_its_own(mount)
    if failed:
        raise failed[0]
    return found[0]


def _in_thread_of_its_own(call: Callable[[], None]) -> None:
    """The thread leaves the process's mounts and working directory, so it is not used again."""
    thread = threading.Thread(target=call, name="mount")
    thread.start()
    thread.join()


def _mount_alone(place: Place, mountpoint: Path, changing: bool) -> int:
    """As the daemon mounts it, in a mount namespace that ends with this thread: the descriptor alone keeps it.

    To look, the written layer is one more below: a second mount that writes empties the `workdir` of the first, and the
    container, should it have been started meanwhile, could write nothing any more (kernel, filesystems/overlayfs).
    """
    if LIBC.unshare(CLONE_NEWNS | CLONE_FS) != 0 or LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise _error(b"unshare")
    storage = Path(place.upper).parents[1]
    os.chdir(storage)
    lower = place.lower if changing else f"{place.upper}:{place.lower}"
    options = "lowerdir=" + ":".join(_short(Path(one), storage) for one in lower.split(":"))
    if changing:
        options += f",upperdir={place.upper},workdir={place.work}"
    if Path("/sys/module/overlay/parameters/index").exists():
        options += ",index=off"
    if LIBC.mount(b"overlay", os.fsencode(mountpoint), b"overlay", 0, os.fsencode(options)) != 0:
        raise _error(os.fsencode(mountpoint))
    return os.open(mountpoint, DIRECTORY)


def _short(layer: Path, storage: Path) -> str:
    """The daemon keeps a short link to each layer, for mount(2) takes no more than a page of options."""
    try:
        return f"l/{(layer.parent / 'link').read_text().strip()}"
    except OSError:
        return str(layer.relative_to(storage))


def _error(path: bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fsdecode(path))
