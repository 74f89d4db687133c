"""What containers use and whose a process is, read from control groups. Blocks; called in a thread."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kohakuriver.hooks.values import Stats

TREE = Path("/sys/fs/cgroup")
PROC = Path("/proc")
MICRO, NANO = 1e-6, 1e-9


def measure(containers: Mapping[str, tuple[str, int]]) -> Mapping[str, Stats]:
    """By instance, of containers given as (id, process id of the first process); those not found are left out.

    cgroup version 2: Documentation/admin-guide/cgroup-v2.rst; version 1: cgroup-v1/cpuacct.rst and memory.rst.
    """
    found = {}
    for instance, (container, pid) in containers.items():
        groups = _groups(pid, container)
        if groups:
            found[instance] = _stats(groups)
    return found


def owners(containers: Mapping[str, str], pids: Iterable[int], proc: Path = PROC) -> Mapping[int, str]:
    """The instance of each process that is in one of these containers, given as instance and id: every control group
    below a container's own has its id in its path.
    """
    found = {}
    for pid in pids:
        try:
            paths = (proc / str(pid) / "cgroup").read_text()
        except OSError:
            continue
        for instance, container in containers.items():
            if container in paths:
                found[pid] = instance
    return found


def _groups(pid: int, container: str) -> dict[str, Path]:
    """The directories of the container's groups by controller, "" for version 2; empty when it is another process."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        if container not in path:
            continue
        # the container's own group: whatever it made below it is counted in it
        own = re.sub(rf"({container}[^/]*)/.*", r"\1", path).lstrip("/")
        for name in names.split(","):
            found[name] = TREE / name / own if name else TREE / own
    return found


def _stats(groups: Mapping[str, Path]) -> Stats:
    if "cpuacct" in groups or "memory" in groups:
        memory = groups.get("memory", Path())
        nanoseconds = _number(groups.get("cpuacct", Path()) / "cpuacct.usage")
        return Stats(
            cpu_seconds=None if nanoseconds is None else nanoseconds * NANO,
            memory=_number(memory / "memory.usage_in_bytes"),
            memory_peak=_number(memory / "memory.max_usage_in_bytes"),
        )
    group = groups.get("", Path())
    return Stats(
        cpu_seconds=_cpu_seconds(group / "cpu.stat"),
        memory=_number(group / "memory.current"),
        memory_peak=_number(group / "memory.peak"),
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cpu_seconds(path: Path) -> float | None:
    try:
        words = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(words["usage_usec"]) * MICRO
    except (OSError, ValueError, KeyError):
        return None
