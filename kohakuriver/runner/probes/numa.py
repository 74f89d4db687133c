"""The machine as cells: which processors and how much memory lie together."""

import os
from pathlib import Path

import psutil

from kohakuriver.wire.link import WireCell

KIB = 1024


def cells(
    root: Path = Path("/sys/devices/system"),
    *,
    usable: frozenset[int] | None = None,
    reserved_cores: int = 0,
    reserved_memory: int = 0,
    total: int = 0,
) -> list[WireCell]:
    """The cells of this machine with what is kept for the system taken off; one cell where the kernel names none.

    `total` is the machine's memory: a single cell has all of it, whatever its own figure leaves out.
    `usable` are the processors that this process may use (sched_getaffinity(2)). Reads `node<N>/cpulist` and
    `node<N>/meminfo` (kernel: Documentation/ABI/stable/sysfs-devices-node).
    """
    allowed = frozenset(os.sched_getaffinity(0)) if usable is None else usable
    found = [_cell(path, root, allowed) for path in _nodes(root)]
    found = [cell for cell in found if cell.cpus or cell.memory]
    if not any(cell.cpus for cell in found):
        cpus = sorted(allowed)
        found = [WireCell(cpus=cpus, siblings=_siblings(root, cpus), memory=int(psutil.virtual_memory().total))]
    if len(found) == 1:
        found[0].memory = max(found[0].memory, total)
    return _less(found, reserved_cores, reserved_memory)


def parse_list(text: str) -> list[int]:
    """The numbers of a kernel list such as `0-3,8`."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            numbers.extend(range(int(first), int(last if dash else first) + 1))
    return numbers


def _nodes(root: Path) -> list[Path]:
    found = [path for path in root.glob("node/node*") if path.name[4:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[4:]))


def _cell(path: Path, root: Path, allowed: frozenset[int]) -> WireCell:
    cpus = [cpu for cpu in parse_list(_text(path / "cpulist")) if cpu in allowed]
    return WireCell(
        id=int(path.name[4:]), cpus=cpus, siblings=_siblings(root, cpus), memory=_memory(_text(path / "meminfo"))
    )


def _siblings(root: Path, cpus: list[int]) -> list[int]:
    """For each processor the lowest one of its core (sysfs: cpu<N>/topology/thread_siblings_list)."""
    lists = [parse_list(_text(root / f"cpu/cpu{cpu}/topology/thread_siblings_list")) for cpu in cpus]
    return [min(found, default=cpu) for cpu, found in zip(cpus, lists, strict=True)]


def _memory(meminfo: str) -> int:
    """`Node 0 MemTotal:  16327692 kB` in bytes."""
    for line in meminfo.splitlines():
        words = line.split()
        if "MemTotal:" in words and words[-2].isdigit():
            return int(words[-2]) * KIB
    return 0


def _less(found: list[WireCell], cores: int, memory: int) -> list[WireCell]:
    """Takes cores and memory off for the system, from the first cell on; a machine always offers one core."""
    cores = min(cores, max(0, sum(len(cell.cpus) for cell in found) - 1))
    result = []
    for cell in found:
        take, keep = min(cores, len(cell.cpus)), max(0, cell.memory - memory)
        cores -= take
        memory -= cell.memory - keep
        result.append(WireCell(id=cell.id, cpus=cell.cpus[take:], siblings=cell.siblings[take:], memory=keep))
    return result


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
