"""What a daemon that died in the middle of a start left of a container: processes that it does not know. Blocks.

The daemon then calls the container created, and neither starts nor removes what is there (seen with 20.10).
"""

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: names of a process of runc's that has not become the workload's yet
UNBORN = "runc:["
SHIM = "containerd-shim"
#: what containerd says of a folder that an unfinished start left
WEDGED = re.compile(r"mkdir (/\S+/([0-9a-f]{64})): file exists")
#: runc writes it there when it has made the container's first process
MADE = "init.pid"
#: looks, and seconds between them, for the end of what was killed
GONE_LOOKS, GONE_PAUSE = 100, 0.02


@dataclass(frozen=True)
class Remains:
    """Process ids: of runc's own before the workload began, of the workload, of those that watch over it."""

    unborn: tuple[int, ...]
    born: tuple[int, ...]
    shims: tuple[int, ...]


def find(container: str) -> Remains:
    """By control group and, for the shims, by command line; nothing where the processes are not this machine's."""
    unborn: list[int] = []
    born: list[int] = []
    shims: list[int] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name = (folder / "comm").read_text()
            if container in (folder / "cgroup").read_text():
                (unborn if name.startswith(UNBORN) else born).append(int(folder.name))
            elif name.startswith(SHIM) and container.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                shims.append(int(folder.name))
        except OSError:
            continue
    return Remains(unborn=tuple(unborn), born=tuple(born), shims=tuple(shims))


def cut_short(container: str) -> bool | None:
    """Right after the daemon died over a start: True when the program surely did not run and now never will, False
    when it runs or may have run, None while there is no trace of it.

    Only the shim lets runc's first process become the program, and it stays until a daemon deletes the task. So both
    are stopped while they are looked at; what cannot become the program any more is killed, else they go on.
    """
    held = _hold(container)
    if not (held.unborn or held.born or held.shims):
        return None
    if held.born or (not held.unborn and any(_made(shim) for shim in held.shims)):
        _signal(held.shims + held.unborn, signal.SIGCONT)
        return False
    end(container)
    return True


def _hold(container: str) -> Remains:
    """Stops shims and processes of runc's until a look finds no new ones, or the program."""
    stopped: set[int] = set()
    while True:
        found = find(container)
        new = set(found.shims + found.unborn) - stopped
        if found.born or not new:
            return found
        _signal(new, signal.SIGSTOP)
        stopped |= new


def _made(shim: int) -> bool:
    """Whether a shim's container had a first process; a shim works in the container's folder."""
    return Path(f"/proc/{shim}/cwd", MADE).exists()


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def end(container: str) -> Remains:
    """Kills what there is, waits up to two seconds until it is gone, and says what there was."""
    found = left = find(container)
    for _ in range(GONE_LOOKS):
        _signal(left.unborn + left.born + left.shims, signal.SIGKILL)
        left = find(container)
        if not (left.unborn or left.born or left.shims):
            break
        time.sleep(GONE_PAUSE)
    return found


def bundle(container: str, message: str) -> Path | None:
    """The folder that stands in the way of another start, as the daemon's refusal names it."""
    found = WEDGED.search(message)
    return Path(found[1]) if found is not None and found[2] == container else None


def never_ran(remains: Remains, folder: Path | None) -> bool:
    """Whether the container's program surely never ran: its first process is still runc's, or was never made."""
    return bool(remains.unborn) or (folder is not None and not remains.born and not (folder / MADE).exists())


def clear(folder: Path) -> None:
    """Removes the folder, if containerd did not when its shim went; nothing while something is mounted in it."""
    mounts = Path("/proc/self/mounts").read_text()
    if f" {folder}/" not in mounts:
        shutil.rmtree(folder, ignore_errors=True)
