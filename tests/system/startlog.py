"""What ran, told by the workload itself in a file that the product does not read; and the processes of a task."""

import hashlib
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

VARIABLE = "STARTLOG"

#: argv: seconds to run, bytes of output, exit code. Every byte follows from the task's name.
PROGRAM = r"""
import hashlib, os, sys, time
def note(what):
    fd = os.open(os.environ["STARTLOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, f"{os.environ['KOHAKURIVER_ATTEMPT']} {what} {os.getpid()}\n".encode())
    os.fsync(fd)
    os.close(fd)
note("start")
size = int(sys.argv[2])
block = hashlib.sha256(sys.argv[4].encode()).digest()
out = (block * (size // 32 + 1))[:size]
half = size // 2
sys.stdout.buffer.write(out[:half]); sys.stdout.flush()
sys.stderr.buffer.write(out[::-1]); sys.stderr.flush()
time.sleep(float(sys.argv[1]))
sys.stdout.buffer.write(out[half:]); sys.stdout.flush()
note("end")
sys.exit(int(sys.argv[3]))
"""


@dataclass(frozen=True)
class Work:
    """One run of PROGRAM and what it must leave behind."""

    name: str
    seconds: float
    size: int
    code: int

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-S", "-E", "-c", PROGRAM, str(self.seconds), str(self.size), str(self.code), self.name]

    @property
    def stdout(self) -> str:
        return hashlib.sha256(self._bytes()).hexdigest()

    @property
    def stderr(self) -> str:
        return hashlib.sha256(self._bytes()[::-1]).hexdigest()

    def _bytes(self) -> bytes:
        return (hashlib.sha256(self.name.encode()).digest() * (self.size // 32 + 1))[: self.size]


@dataclass(frozen=True)
class StartLog:
    path: Path

    @property
    def env(self) -> dict[str, str]:
        return {VARIABLE: str(self.path)}

    def lines(self) -> list[tuple[str, str]]:
        """(attempt, `start` or `end`)."""
        text = self.path.read_text() if self.path.exists() else ""
        return [(words[0], words[1]) for words in map(str.split, text.splitlines())]

    def starts(self) -> Counter[str]:
        """How often each attempt began."""
        return Counter(attempt for attempt, what in self.lines() if what == "start")

    def starts_of(self, task: str) -> int:
        """How often anything of this task began."""
        return sum(count for attempt, count in self.starts().items() if attempt.partition(".")[0] == task)

    def ends_of(self, task: str) -> int:
        return sum(what == "end" and attempt.partition(".")[0] == task for attempt, what in self.lines())


def processes_of(task: str) -> list[psutil.Process]:
    """Every process that the task has on this machine, by its environment."""
    wanted = f"KOHAKURIVER_TASK_ID={task}".encode()
    found = []
    for pid in psutil.pids():
        try:
            text = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if wanted in text.split(b"\0"):
            try:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
    return found


def cpu_ticks(pids: list[int]) -> int:
    """Clock ticks that these processes have used (proc(5), fields 14 and 15)."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total


def processes_under(place: Path) -> list[psutil.Process]:
    """Every process that has this directory in its command line, environment or working directory; not this one."""
    wanted = str(place).encode()
    found = []
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        try:
            texts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
            texts.append(os.readlink(f"/proc/{pid}/cwd").encode())
            if any(wanted in text for text in texts):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        except (OSError, psutil.NoSuchProcess):
            continue
    return found
