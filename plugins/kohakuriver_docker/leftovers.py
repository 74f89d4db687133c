"""Processes that a terminal leaves in a container: the daemon ends none of them when their connection closes. Blocks.

A process belongs to the terminal whose mark stands in the environment that it was started with, and so do its children
and what shares its session or its terminal. What has shed all of that is nobody's, and goes when no terminal is left.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
#: name of the variable that carries the mark
MARK = "KOHAKURIVER_TERMINAL"
#: looks, and seconds between them, for the end of what was told that its terminal is gone, and of what was killed
HANGUP_LOOKS, LOOKS, PAUSE = 25, 500, 0.02


@dataclass(frozen=True)
class Process:
    """One of a container. `begun` tells it from a later one with the same id."""

    pid: int
    parent: int
    session: int
    terminal: int
    begun: str
    mark: str


def find(container: str) -> Mapping[int, Process]:
    """Those in the container's control groups, as this machine counts them; none where they are another machine's."""
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (process := _read(folder, container)) is not None:
            found[process.pid] = process
    return found


def _read(folder: Path, container: str) -> Process | None:
    try:
        if container not in (folder / "cgroup").read_text():
            return None
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    environment = b""
    with contextlib.suppress(OSError):  # it has ended, or this process may not see it and will not end it either
        environment = (folder / "environ").read_bytes()
    if fields[0] in "ZX":
        return None
    name = f"{MARK}=".encode()
    mark = next((word.removeprefix(name) for word in environment.split(b"\0") if word.startswith(name)), b"")
    return Process(
        pid=int(folder.name),
        parent=int(fields[1]),
        session=int(fields[3]),
        terminal=int(fields[4]),
        begun=fields[19],
        mark=mark.decode(errors="replace"),
    )


def of_terminal(processes: Mapping[int, Process], mark: str) -> set[int]:
    """Those of the terminal with this mark."""
    return _spread(processes, {one.pid for one in processes.values() if one.mark == mark})


def of_nobody(processes: Mapping[int, Process], init: int, marks: Collection[str]) -> set[int]:
    """Those of terminals whose marks are not among these, and when there are none at all, also those that neither the
    container's own program nor one that somebody else had the daemon start in there accounts for. `init` is the
    container's first process.
    """
    if init not in processes:
        return set()
    own = {one.pid for one in processes.values() if one.session == processes[init].session}
    held = _spread(processes, {one.pid for one in processes.values() if one.mark in marks})
    stale = _spread(processes, {one.pid for one in processes.values() if one.mark and one.mark not in marks})
    if marks:
        return stale - held - own
    roots = {one.pid for one in processes.values() if one.parent not in processes and not one.mark}
    return (set(processes) - _spread(processes, roots - own) - own) | (stale - own)


def _spread(processes: Mapping[int, Process], known: set[int]) -> set[int]:
    """With their children, and what shares their sessions and terminals."""
    found = set(known)
    while True:
        sessions = {processes[pid].session for pid in found}
        terminals = {processes[pid].terminal for pid in found} - {0}
        more = {
            one.pid
            for one in processes.values()
            if one.parent in found or one.session in sessions or one.terminal in terminals
        }
        if more <= found:
            return found
        found |= more


def hang_up(container: str, mark: str) -> None:
    """Tells the terminal's processes that it is gone, as a modem would, and gives them half a second to leave."""
    for look in range(HANGUP_LOOKS):
        processes = find(container)
        left = [processes[pid] for pid in of_terminal(processes, mark)]
        if not left:
            return
        if not look:
            _signal(left, container, signal.SIGHUP)
            _signal(left, container, signal.SIGCONT)
        time.sleep(PAUSE)


def end(container: str, mark: str) -> bool:
    """Kills the terminal's processes; whether all are gone."""
    return _end(container, lambda processes: of_terminal(processes, mark))


def end_rest(container: str, init: int, marks: Callable[[], Collection[str]]) -> bool:
    """Kills what belongs to nobody while the terminals with these marks are open; whether all of it is gone."""
    return _end(container, lambda processes: of_nobody(processes, init, marks()))


def _end(container: str, choose: Callable[[Mapping[int, Process]], set[int]]) -> bool:
    for _ in range(LOOKS):
        processes = find(container)
        left = choose(processes)
        if not left:
            return True
        _signal([processes[pid] for pid in left], container, signal.SIGKILL)
        time.sleep(PAUSE)
    return False


def _signal(processes: Iterable[Process], container: str, number: signal.Signals) -> None:
    """To these very processes: an id that has become another's is left alone."""
    for one in processes:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(one.pid)
            try:
                now = _read(PROC / str(one.pid), container)
                if now is not None and now.begun == one.begun:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)
