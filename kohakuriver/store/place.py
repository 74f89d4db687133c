"""The data directory of a store in a file: who may read it, on which file system it may lie, who holds it."""

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from kohakuriver.errors import StoreError

LOCK = "host.lock"
#: magic numbers of statfs(2) and linux/magic.h: file systems of other machines, on which locks or WAL do not hold
NETWORK = {
    0x6969: "NFS",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x517B: "SMB",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
}


class Held:
    """The lock of a data directory. The kernel frees it when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def free(self) -> None:
        """May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def prepare(directory: Path) -> None:
    """Makes the directory for its owner alone. Raises StoreError when it cannot be, or lies on another machine."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise StoreError(f"the data directory {directory} cannot be used: {error.strerror}") from error
    name = NETWORK.get(file_system(directory))
    if name is not None:
        raise StoreError(f"the data directory {directory} lies on {name}; put it on a disk of this machine")


def hold(directory: Path) -> Held:
    """Takes the directory for this process. Raises StoreError naming the process that has it."""
    path = directory / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise StoreError(f"{path} cannot be locked: {error.strerror}") from error
        raise StoreError(
            f"the data directory {directory} is in use by process {holder}; stop that host first"
        ) from None
    # the number is only for the message above; on a full disk the lock holds without it
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            os.close(descriptor)
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return Held(descriptor)


def own(path: Path) -> None:
    """Makes the file, if need be, readable to its owner alone. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}") from error


class _Statfs(ctypes.Structure):
    """The beginning of struct statfs on 64-bit Linux, and room for its rest."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


def file_system(path: Path) -> int:
    """The magic number of the file system that the path lies on (statfs(2)); 0 when the kernel does not say."""
    buffer = _Statfs()
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), ctypes.byref(buffer)) != 0:
        return 0
    return int(buffer.f_type) & 0xFFFFFFFF
