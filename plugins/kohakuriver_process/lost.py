"""Workloads whose shepherd is gone: found again by process id and start time, by control group, or by their mark.

Their exit code is lost with the shepherd, and is said to be.
"""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kohakuriver.hooks.values import Exit
from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.hunt import MARK
from kohakuriver_process.shepherd.tree import DEAD, Process

SHEPHERD_MARK = "KOHAKURIVER_SHEPHERD"
REASON_SHEPHERD = "the shepherd that watched it is gone, and the exit code with it"
REASON_BOOT = "the machine was started anew while it ran"
FIRST_DELAY = 0.005
LONGEST_DELAY = 0.2


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a shepherd wrote down about a body."""

    instance: str
    directory: str
    attempt: str | None
    pid: int
    start: int
    groups: tuple[str, ...]
    cage: str | None
    shepherd: str
    boot: str

    @property
    def run(self) -> str | None:
        return f"{self.pid}-{self.start}" if self.pid else None

    @property
    def alive(self) -> bool:
        return bool(self.pid) and tree.alive(self.pid, self.start)


def records(state: Path) -> list[Record]:
    """All records, also those of the shepherd that is there now."""
    directory = state / "bodies"
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    return [record for name in names if (record := load(state, name)) is not None]


def load(state: Path, instance: str) -> Record | None:
    """The record of a body; None when there is none that can be read."""
    try:
        data: Mapping[str, Any] = json.loads((state / "bodies" / instance).read_text())
        return Record(
            instance=data["instance"],
            directory=data["directory"],
            attempt=data["attempt"],
            pid=data["pid"],
            start=data["start"],
            groups=tuple(data["groups"]),
            cage=data["cage"],
            shepherd=data["shepherd"],
            boot=data["boot"],
        )
    except (OSError, ValueError, KeyError):
        return None


def ended(boot: str, record_boot: str) -> Exit:
    """How a run ended that nobody watched."""
    reason = REASON_SHEPHERD if boot == record_boot else REASON_BOOT
    return Exit(reason=reason, finished=datetime.now(UTC))


async def gone(run: str) -> None:
    """Returns when the process of this run is no more. Cancelling it touches nothing."""
    pid, _, start = run.partition("-")
    try:
        fd = os.pidfd_open(int(pid))
    except OSError:
        return
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    try:
        if tree.alive(int(pid), int(start)):
            loop.add_reader(fd, _settle, over)
            await over
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def members(record: Record) -> list[Process]:
    """The living processes of a body without a shepherd."""
    if record.cage is not None:
        found = [tree.look(pid) for pid in groups.members(record.cage)]
        return [process for process in found if process is not None and process.state not in DEAD]
    table = tree.everything()
    wanted = {MARK: record.attempt, SHEPHERD_MARK: record.shepherd}
    roots = [pid for pid in table if tree.marks(pid, wanted) == wanted]
    roots += [pid for pid, process in table.items() if record.pid and process.session == record.pid and record.alive]
    below = {process.pid: process for process in tree.below(roots, table)}
    return [process for process in below.values() if process.state not in DEAD]


def kill_pass(record: Record) -> bool:
    """One pass of killing everything of the body; True when nothing was left."""
    if record.cage is not None and not groups.kill(record.cage):
        return False
    found = members(record)
    tree.send(found, signal.SIGSTOP)
    tree.send(members(record), signal.SIGKILL)
    return not found


def ask_to_end(record: Record) -> None:
    """SIGTERM to the process group of the main process, if it is still that process."""
    if record.alive:
        os.killpg(record.pid, signal.SIGTERM)
        os.killpg(record.pid, signal.SIGCONT)


def forget(state: Path, record: Record) -> None:
    """Removes its groups and its record."""
    for directory in record.groups:
        groups.remove(directory)
    (state / "bodies" / record.instance).unlink(missing_ok=True)
