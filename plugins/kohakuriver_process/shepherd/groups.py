"""Control groups by their files, version 1 and 2 (kernel: admin-guide/cgroup-v1, admin-guide/cgroup-v2).

Making, entering, freezing, killing and removing; which limits they carry is decided elsewhere.
"""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH102, PTH103, PTH106, PTH110, PTH112, PTH118, PTH120, PTH123

import contextlib
import os
import signal
from typing import TypedDict

from kohakuriver_process.shepherd import tree

ONE_READ = 65536
#: file, what it says, its unit
COUNTERS = (
    ("cpu.stat", "cpu_seconds", 1e-6),
    ("cpuacct.usage", "cpu_seconds", 1e-9),
    ("memory.current", "memory", 1),
    ("memory.usage_in_bytes", "memory", 1),
    ("memory.peak", "memory_peak", 1),
    ("memory.max_usage_in_bytes", "memory_peak", 1),
)
#: counters by the group above those that have them
_KNOWN: dict[str, tuple[tuple[str, str, float], ...]] = {}


class Group(TypedDict):
    """A directory to make, what to write before a process enters it, and what once one is in."""

    directory: str
    before: list[tuple[str, str]]
    after: list[tuple[str, str]]


class Mounted(TypedDict):
    """A hierarchy: its mount point, and the group in it that this process is in."""

    top: str
    own: str


def read(directory: str, name: str) -> str:
    """The whole file. Without Python's own file objects, which ask the kernel twice as much as they read."""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while data := os.read(fd, ONE_READ):
            text += data
    finally:
        os.close(fd)
    return text.decode("ascii")


def write(directory: str, name: str, value: str) -> None:
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def mounted() -> dict[str, Mounted]:
    """Hierarchies by controller name; the one of version 2 under ""."""
    own = {}
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            own.update(dict.fromkeys(names.split(","), path))
    found: dict[str, Mounted] = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            root, top = left.split()[3:5]
            kind, _, options = right.split()[:3]
            if kind == "cgroup2":
                found.setdefault("", _mounted(top, root, own.get("", "/")))
            elif kind == "cgroup":
                for name in options.split(","):
                    if name in own:
                        found.setdefault(name, _mounted(top, root, own[name]))
    return found


def _mounted(top: str, root: str, path: str) -> Mounted:
    inside = path.removeprefix(root) if root != "/" else path
    own = os.path.join(top, inside.lstrip("/")).rstrip("/")
    return Mounted(top=top, own=own if os.path.isdir(own) else top)


def home(directory: str, hierarchies: dict[str, Mounted]) -> str:
    """The group that this process belongs to in the hierarchy of the directory."""
    best = max(
        (mount for mount in hierarchies.values() if directory.startswith(mount["top"] + "/")),
        key=lambda mount: len(mount["top"]),
    )
    return best["own"]


def make(group: Group) -> None:
    """Makes the directory and writes its first values. Raises OSError."""
    os.mkdir(group["directory"])
    for name, value in group["before"]:
        write(group["directory"], name, value)


def enter(directory: str) -> None:
    """Moves this process, which has one thread. By version 1's file for threads: a thread that moves itself waits for
    nobody, while a whole process makes every fork of the machine wait, and itself for milliseconds.
    """
    try:
        write(directory, "tasks", "0")
    except FileNotFoundError:
        write(directory, "cgroup.procs", "0")


class Homes:
    """Where this process belongs in each hierarchy, with the file open by which it comes back after each birth."""

    def __init__(self, hierarchies: dict[str, Mounted]) -> None:
        self._hierarchies = hierarchies
        self._files: dict[str, int] = {}

    def back_from(self, directory: str) -> None:
        """Leaves the group for the one that this process belongs to."""
        parent = os.path.dirname(directory)
        fd = self._files.get(parent)
        if fd is None:
            fd = self._files[parent] = _way_in(home(directory, self._hierarchies))
        os.pwrite(fd, b"0", 0)


def _way_in(directory: str) -> int:
    try:
        return os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def members(directory: str) -> list[int]:
    """The processes in the group; none when it is gone."""
    try:
        return [int(word) for word in read(directory, "cgroup.procs").split()]
    except OSError:
        return []


def freeze(directory: str) -> None:
    """Asks for every process of the group to be frozen; frozen() tells when it is done."""
    if os.path.exists(os.path.join(directory, "freezer.state")):
        write(directory, "freezer.state", "FROZEN")
    else:
        write(directory, "cgroup.freeze", "1")


def thaw(directory: str) -> None:
    if os.path.exists(os.path.join(directory, "freezer.state")):
        write(directory, "freezer.state", "THAWED")
    else:
        write(directory, "cgroup.freeze", "0")


def frozen(directory: str) -> bool:
    if os.path.exists(os.path.join(directory, "freezer.state")):
        return read(directory, "freezer.state").strip() == "FROZEN"
    return "frozen 1" in read(directory, "cgroup.events")


def kill(directory: str) -> bool:
    """One pass of killing everything in the group; True when it was empty. To be repeated until it is."""
    pids = members(directory)
    if not pids:
        return True
    try:
        if os.path.exists(os.path.join(directory, "cgroup.kill")):
            write(directory, "cgroup.kill", "1")
            return False
        freeze(directory)
        tree.send([process for pid in members(directory) if (process := tree.look(pid))], signal.SIGKILL)
        thaw(directory)
    except OSError:  # it went away meanwhile, as the next pass will find
        return False
    return False


def out_of_memory(directory: str) -> bool | None:
    """Whether the kernel killed a process of the group for want of memory; None when it does not say."""
    for name in ("memory.oom_control", "memory.events"):
        try:
            lines = read(directory, name).splitlines()
        except OSError:
            continue
        counts = dict(line.split(" ", 1) for line in lines if " " in line)
        if "oom_kill" in counts:
            return int(counts["oom_kill"]) > 0
    return None


def usage(directories: list[str]) -> dict[str, float]:
    """What the kernel counted for these groups of one workload: cpu_seconds, memory, memory_peak, as far as it does.

    cpu.stat is there in version 2 whatever controllers are; memory counts the page cache as well.
    """
    found: dict[str, float] = {}
    for directory in directories:
        for name, field, unit in _counters(directory):
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = read(directory, name)
                word = text.split("usage_usec", 1)[1].split()[0] if name == "cpu.stat" else text
                found.setdefault(field, int(word) * unit)
    return found


def _counters(directory: str) -> tuple[tuple[str, str, float], ...]:
    """Those that a group has; its siblings have the same."""
    parent = os.path.dirname(directory)
    known = _KNOWN.get(parent)
    if known is None:
        known = tuple(counter for counter in COUNTERS if os.path.exists(f"{directory}/{counter[0]}"))
        if os.path.isdir(directory):
            _KNOWN[parent] = known
    return known


def remove(directory: str) -> bool:
    """Removes an empty group; False when something is still in it."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def settle() -> str:
    """Makes a tree that was delegated to this process usable: moves to a leaf, for a group with processes cannot
    hand controllers on (cgroup-v2, "no internal process"), and hands on what there is. Returns the tree.
    """
    tree = mounted()[""]["own"]
    leaf = os.path.join(tree, "shepherd")
    os.makedirs(leaf, exist_ok=True)
    enter(leaf)
    for name in read(tree, "cgroup.controllers").split():
        try:
            write(tree, "cgroup.subtree_control", f"+{name}")
        except OSError:
            continue  # enabled() tells what came of it
    return tree


def enabled(tree: str) -> list[str]:
    return read(tree, "cgroup.subtree_control").split()
