"""Processes as /proc shows them (proc(5)): who descends from whom, and which carry a mark in their environment."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH123, PTH208

import os
import signal
from collections.abc import Iterable

#: a process that is dead but not yet waited for
DEAD = frozenset("ZX")
STOPPED = frozenset("Tt")


class Process:
    """One line of /proc/<pid>/stat. `start` is field 22, clock ticks since boot: with the pid it names a process."""

    __slots__ = ("group", "parent", "pid", "session", "start", "state")

    def __init__(self, pid: int, stat: str) -> None:
        fields = stat[stat.rindex(")") + 2 :].split()
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start = int(fields[19])


def look(pid: int) -> Process | None:
    """The process, or None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Process(pid, os.read(fd, 4096).decode("latin-1"))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


def will_stop(process: Process) -> bool:
    """Whether it waits inside the kernel and stops before it goes on, such as after vfork(2) whose child is stopped."""
    if process.state != "D":
        return False
    try:
        with open(f"/proc/{process.pid}/status", encoding="utf-8", errors="replace") as file:
            pending = next(line for line in file if line.startswith("ShdPnd:"))
    except (OSError, StopIteration):
        return False
    return bool(int(pending.split()[1], 16) >> (signal.SIGSTOP - 1) & 1)


def alive(pid: int, start: int) -> bool:
    """Whether this very process still runs; a zombie does not."""
    process = look(pid)
    return process is not None and process.start == start and process.state not in DEAD


def everything() -> dict[int, Process]:
    """All processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = look(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def children(pid: int) -> list[int] | None:
    """The direct children of a single-threaded process, cheaply; None where the kernel does not tell."""
    try:
        fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    text = b""
    try:
        while data := os.read(fd, 65536):
            text += data
    except OSError:
        return None
    finally:
        os.close(fd)
    return [int(word) for word in text.split()]


def below(roots: Iterable[int], table: dict[int, Process]) -> list[Process]:
    """The roots that exist and all that descends from them."""
    by_parent: dict[int, list[Process]] = {}
    for process in table.values():
        by_parent.setdefault(process.parent, []).append(process)
    queue = [table[pid] for pid in roots if pid in table]
    found = []
    while queue:
        process = queue.pop()
        found.append(process)
        queue += by_parent.get(process.pid, ())
    return found


def marks(pid: int, names: Iterable[str]) -> dict[str, str]:
    """The values of these environment variables as the process was given them; nothing when it cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    found = {}
    for name in names:
        prefix = name.encode() + b"="
        for entry in entries:
            if entry.startswith(prefix):
                found[name] = os.fsdecode(entry[len(prefix) :])
                break
    return found


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """Signals each process that still is the one that was seen."""
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            continue
        try:
            now = look(process.pid)
            if now is not None and now.start == process.start:
                signal.pidfd_send_signal(fd, number)
        except OSError:
            continue
        finally:
            os.close(fd)
