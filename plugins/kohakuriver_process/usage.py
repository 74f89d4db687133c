"""What a body used so far: from its control group where there is one, else from its main process."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH123

import os

from kohakuriver.hooks.values import Stats
from kohakuriver_process.shepherd.frames import Message

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(story: Message) -> Stats:
    """The figures of a body as its shepherd tells of it. Blocks for a moment: reads /proc."""
    used = story.get("usage")
    if used is not None:
        return Stats(cpu_seconds=used["cpu_seconds"], memory_peak=used["memory_peak"])
    run = story.get("run")
    if run is None:
        return Stats()
    return _of_process(int(run.partition("-")[0]))


def _of_process(pid: int) -> Stats:
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            text = file.read()
        fields = text[text.rindex(")") + 2 :].split()
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
    except (OSError, ValueError):
        return Stats()
    # utime, stime and those of waited-for children: proc_pid_stat(5), fields 14 to 17
    cpu = sum(int(field) for field in fields[11:15]) / TICKS
    return Stats(cpu_seconds=cpu, memory=_kib(status, "VmRSS"), memory_peak=_kib(status, "VmHWM"))


def _kib(status: dict[str, str], name: str) -> int | None:
    words = status.get(name, "").split()
    return int(words[0]) * 1024 if words else None
