"""What bodies used so far: from their control groups where these count, else the sum over their processes.

The sum takes in all that are below the main process, in its session, or marked as its orphans, and what was waited for
of those that ended; memory that processes share is in it as often as it is shared.
"""

# plain names: pathlib would only cost time
# ruff: noqa: PTH123

import os
from collections.abc import Iterable, Mapping

from kohakuriver.hooks.values import Stats
from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.frames import Message
from kohakuriver_process.shepherd.hunt import MARK

TICKS = os.sysconf("SC_CLK_TCK")


FIELDS = ("cpu_seconds", "memory", "memory_peak")


def of_ended(story: Message) -> Stats:
    """What a body used that is over, as its shepherd summed it up."""
    used = story["usage"]
    return Stats(cpu_seconds=used["cpu_seconds"], memory_peak=int(used["memory_peak"]) or None)


def measure(stories: Mapping[str, Message]) -> dict[str, Stats]:
    """The figures of these bodies as their shepherd tells of them. Blocks for a moment: reads /proc once for all."""
    found = {}
    table: dict[int, tree.Process] = {}
    for instance, story in stories.items():
        if story["phase"] == "exited":
            found[instance] = of_ended(story)
        elif story.get("run") is None:
            found[instance] = Stats()
        else:
            counted = groups.usage(story["groups"])
            if len(counted) < len(FIELDS):
                table = table or tree.everything()
                counted = {**_sum(story, table), **counted}
            memory, peak = int(counted["memory"]), int(counted["memory_peak"])
            found[instance] = Stats(cpu_seconds=counted["cpu_seconds"], memory=memory, memory_peak=peak)
    return found


def _sum(story: Message, table: dict[int, tree.Process]) -> dict[str, float]:
    roots = _roots(story, table)
    nested = {pid for pid in roots if table[pid].parent in roots}
    each = [_of_process(pid) for pid in {process.pid for process in tree.below(roots - nested, table)}]
    memory = sum(one["memory"] for one in each)
    before = story.get("usage", {"cpu_seconds": 0.0, "memory_peak": 0})
    return {
        "cpu_seconds": before["cpu_seconds"] + sum(one["cpu_seconds"] for one in each),
        "memory": memory,
        "memory_peak": max([memory, before["memory_peak"], *(one["memory_peak"] for one in each)]),
    }


def _roots(story: Message, table: dict[int, tree.Process]) -> set[int]:
    main = int(story["run"].partition("-")[0])
    found = {pid for pid, process in table.items() if main in (pid, process.session)}
    found |= {pid for directory in story["groups"] for pid in groups.members(directory) if pid in table}
    shepherd = table[main].parent if main in table else None
    for pid, process in table.items():
        if process.parent == shepherd and tree.marks(pid, [MARK]).get(MARK) == story["attempt"]:
            found.add(pid)
    return found


def _of_process(pid: int) -> dict[str, float]:
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            text = file.read()
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return dict.fromkeys(FIELDS, 0)
    # utime, stime and those of waited-for children: proc_pid_stat(5), fields 14 to 17
    cpu = sum(map(int, text[text.rindex(")") + 2 :].split()[11:15])) / TICKS
    return {"cpu_seconds": cpu, "memory": _kib(status, "VmRSS"), "memory_peak": _kib(status, "VmHWM")}


def _kib(status: Mapping[str, str], name: str) -> int:
    """A figure of /proc/<pid>/status in bytes; a process that is about to end has none."""
    words: Iterable[str] = status.get(name, "0").split()
    return int(next(iter(words))) * 1024
