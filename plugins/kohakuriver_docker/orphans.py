"""What a daemon that died in the middle of a start left of a container: processes that it does not know. Blocks.

The daemon then calls the container created, and neither starts nor removes what is there (seen with 20.10).
"""

import contextlib
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

#: names of a process of runc's that has not become the workload's yet
UNBORN = "runc:["
SHIM = "containerd-shim"
#: what containerd says of a folder that an unfinished start left
WEDGED = re.compile(r"mkdir (/\S+/([0-9a-f]{64})): file exists")
#: runc writes it there when it has made the container's first process
MADE = "init.pid"


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


def end(container: str) -> Remains:
    """Kills what there is, and says what there was."""
    found = find(container)
    for pid in (*found.unborn, *found.born, *found.shims):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
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
