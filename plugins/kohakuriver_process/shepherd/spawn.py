"""The birth of one workload: it inherits its groups, processors and memory policy, so no wrapper runs before it.

The shepherd has one thread. It enters the groups, starts the child with vfork (three times as fast as fork
here) and leaves them again; limits that could hit the shepherd itself are written when the child is born.
"""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH113, PTH118

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import TypedDict

from kohakuriver_process.shepherd import groups

#: open files that a workload may have: as many as the shepherd was given; it takes more for itself
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)

MPOL_DEFAULT = 0
MPOL_BIND = 2
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}


class User(TypedDict):
    """Whom the process runs as."""

    uid: int
    gid: int
    groups: list[int]


class Order(TypedDict):
    """What to start and how. Every limit that is empty or None is no limit."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    user: User | None
    groups: list[groups.Group]
    #: the group by which the whole tree is frozen and killed
    cage: str | None
    #: the group that counts memory
    memory: str | None
    cpus: list[int]
    cells: list[int]
    address_space: int | None
    nice: int
    #: bytes kept of each stream
    head: int
    tail: int


class StartFailed(Exception):
    """the process could not be started"""


def spawn(order: Order, stdout: int, stderr: int, homes: groups.Homes) -> int:
    """Starts the process in a session of its own and returns its id. Raises StartFailed; nothing is left then."""
    made: list[str] = []
    try:
        for group in order["groups"]:
            groups.make(group)
            made.append(group["directory"])
        pid = _born(order, stdout, stderr, homes)
    except OSError as error:
        _undo(made)
        raise StartFailed(f"cannot apply the limits: {error.strerror}: {error.filename or ''}") from None
    except StartFailed:
        _undo(made)
        raise
    _after_birth(order, pid, made)
    return pid


def _born(order: Order, stdout: int, stderr: int, homes: groups.Homes) -> int:
    entered: list[str] = []
    affinity = os.sched_getaffinity(0) if order["cpus"] else None
    try:
        for group in order["groups"]:
            groups.enter(group["directory"])
            entered.append(group["directory"])
        if order["cpus"]:
            os.sched_setaffinity(0, order["cpus"])
        if order["cells"]:
            _bind_memory(order["cells"])
        return _execute(order, stdout, stderr)
    finally:
        for directory in entered:
            homes.back_from(directory)
        if order["cells"]:
            _bind_memory([])
        if affinity is not None:
            os.sched_setaffinity(0, affinity)


def _execute(order: Order, stdout: int, stderr: int) -> int:
    user = order["user"]
    try:
        with _entered(order["cwd"], user) as cwd:
            child = subprocess.Popen(
                order["argv"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=order["env"],
                start_new_session=True,
                user=user["uid"] if user else None,
                group=user["gid"] if user else None,
                extra_groups=user["groups"] if user else None,
                umask=0o022,
                preexec_fn=_before_exec(order),  # noqa: PLW1509 -- there are no threads
            )
    except OSError as error:
        raise StartFailed(_why(order, error)) from None
    except (ValueError, subprocess.SubprocessError) as error:
        raise StartFailed(f"cannot start {order['argv'][0]!r}: {error}") from None
    child.returncode = 0
    return child.pid


@contextlib.contextmanager
def _entered(directory: str, user: User | None) -> Iterator[str]:
    """The working directory. Popen enters it with the shepherd's rights, so for another user it is opened with that
    user's before, and stays the one that was opened whatever its name becomes.
    """
    if user is None:
        yield directory
        return
    saved = os.getgroups()
    os.setgroups(user["groups"])
    os.setegid(user["gid"])
    os.seteuid(user["uid"])
    try:
        fd = os.open(f"{directory}/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        error.filename = directory
        raise
    finally:
        os.seteuid(os.getuid())
        os.setegid(os.getgid())
        os.setgroups(saved)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _why(order: Order, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.filename == order["cwd"]:
        return f"cannot enter the working directory {order['cwd']!r}: {reason}"
    program = os.path.join(order["cwd"], order["argv"][0])
    if error.errno == errno.ENOENT and "/" in order["argv"][0] and os.path.isfile(program):
        reason = "its interpreter, named in its first line, is not there"
    if error.errno == errno.E2BIG:
        reason += "; arguments and environment together are more than this machine takes"
    return f"cannot start {order['argv'][0]!r}: {reason}"


def _before_exec(order: Order) -> Callable[[], None] | None:
    """What the child must do itself, which costs a fork in place of a vfork; None where the shepherd can do it."""
    space = order["address_space"]
    if space is None and order["user"] is None and not order["nice"]:
        return None

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES)
        if space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
        if order["nice"]:
            os.setpriority(os.PRIO_PROCESS, 0, order["nice"])

    return limit


def _bind_memory(cells: list[int]) -> None:
    """set_mempolicy(2) for this thread, which a child inherits; no cells: the default policy."""
    number = SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise StartFailed(f"memory cannot be bound to a NUMA cell on {platform.machine()}")
    bits = ctypes.c_ulong(sum(1 << cell for cell in cells))
    libc = ctypes.CDLL(None, use_errno=True)
    mode = MPOL_BIND if cells else MPOL_DEFAULT
    if libc.syscall(number, mode, ctypes.byref(bits) if cells else None, 65 if cells else 0) != 0:
        raise StartFailed(f"cannot bind memory to NUMA cells {cells}: {os.strerror(ctypes.get_errno())}")


def _after_birth(order: Order, pid: int, made: list[str]) -> None:
    try:
        if order["user"] is None:  # another user's limits are not the shepherd's to set (prlimit(2))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, OPEN_FILES)
        for group in order["groups"]:
            for name, value in group["after"]:
                groups.write(group["directory"], name, value)
    except ProcessLookupError:
        return
    except OSError as error:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _undo(made)
        raise StartFailed(f"cannot apply the limits: {error.strerror}") from None


def _undo(made: list[str]) -> None:
    for directory in made:
        groups.remove(directory)
