"""Work in containers, as `startlog` has it for processes: a start log in a mounted folder, output that follows from the name."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohakuriver.testing.dockerd import IMAGE

from .cluster import Cluster
from .startlog import StartLog

#: $1 seconds to run, $2 lines of output, $3 exit code; the lines are numbers
PROGRAM = """
echo "$KOHAKURIVER_ATTEMPT start $$" >>/log/starts
seq 1 "$2"; seq "$2" -1 1 >&2
sleep "$1"
seq 1 "$2"
echo "$KOHAKURIVER_ATTEMPT end $$" >>/log/starts
exit "$3"
"""


@dataclass(frozen=True)
class Box:
    """One run of PROGRAM and what it must leave behind."""

    name: str
    seconds: float
    lines: int
    code: int

    def body(self, cluster: Cluster) -> dict[str, Any]:
        """What is submitted."""
        words = [str(self.seconds), str(self.lines), str(self.code)]
        return {
            "command": ["sh", "-c", PROGRAM, "box", *words],
            "image": IMAGE,
            "cores": 0,
            "name": self.name,
            "options": {"mounts": [f"{folder(cluster)}:/log"]},
        }

    @property
    def stdout(self) -> str:
        return hashlib.sha256(self.said("stdout")).hexdigest()

    @property
    def stderr(self) -> str:
        return hashlib.sha256(self.said("stderr")).hexdigest()

    def said(self, stream: str) -> bytes:
        """Every byte of a stream."""
        if stream == "stdout":
            return _numbers(range(1, self.lines + 1)) * 2
        return _numbers(range(self.lines, 0, -1))


def folder(cluster: Cluster) -> Path:
    """What is mounted into every box of the cluster."""
    path = cluster.top / "log"
    path.mkdir(exist_ok=True)
    return path


def start_log(cluster: Cluster) -> StartLog:
    return StartLog(folder(cluster) / "starts")


def _numbers(which: range) -> bytes:
    return b"".join(b"%d\n" % number for number in which)
