"""The state of the machine and of what runs on it, measured now and then. Only the newest counts."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.capabilities import CanClaim
from kohakuriver.hooks.values import Handle
from kohakuriver.runner.desk import Desk
from kohakuriver.runner.entry import Entry
from kohakuriver.runner.probes import cpu, disk, memory, temperature
from kohakuriver.runner.probes.reading import Missing
from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.link import (
    Heartbeat,
)

log = logging.getLogger(__name__)

#: attempts in one heartbeat, so that it stays a small message
MOST_STATS = 2000
#: processes on cards in one heartbeat
MOST_PROCESSES = 500
STATS_LIMIT = 2.0


async def measure(desk: Desk) -> Heartbeat:
    """One heartbeat. What a probe cannot find out is left out and named in `missing`."""
    beat: Heartbeat = await desk.in_thread(_machine, desk)
    entries = [entry for entry in desk.journal.open_entries() if entry.phase in ("running", "paused")]
    beat.running = len(entries)
    for backend in desk.backends.values():
        handles = {entry.instance: entry for entry in entries if entry.backend == backend.name and entry.handle}
        for instance, stats in (await _stats(backend, [e.handle for e in handles.values() if e.handle], beat)).items():
            if instance in handles and len(beat.stats) < MOST_STATS:
                beat.stats[handles[instance].attempt] = stats
    beat.devices = await _devices(desk, entries, beat)
    beat.at = desk.clock.wall()
    return beat


def _machine(desk: Desk) -> Heartbeat:
    beat = Heartbeat()
    missing = beat.missing
    beat.cpu = _ask("cpu", cpu.busy, missing)
    beat.load = _ask("load", cpu.load, missing)
    beat.temperature = _ask("temperature", temperature.temperature, missing)
    beat.memory_used, beat.memory_total = _ask("memory", memory.memory, missing) or (None, None)
    beat.disk_used, beat.disk_total = _ask("disk", lambda: disk.disk(desk.settings.data_dir), missing) or (None, None)
    return beat


def _ask(name: str, probe: Callable[[], Any], missing: dict[str, str]) -> Any:
    try:
        return probe()
    except Missing as error:
        missing[name] = str(error)
        return None


async def _devices(desk: Desk, entries: Sequence[Entry], beat: Heartbeat) -> list[DeviceUse]:
    """How each card does, and whose processes are on it."""
    try:
        uses = (await desk.gpus.look()).uses
    except Missing as error:
        beat.missing["gpu"] = str(error)
        return []
    for problem in desk.gpus.reading.problems:
        beat.missing[problem.partition(":")[0]] = problem.partition(": ")[2]
    left = MOST_PROCESSES
    for use in uses:
        use.processes = use.processes[:left]
        left -= len(use.processes)
    pids = sorted({process.pid for use in uses for process in use.processes})
    owners: dict[int, str] = {}
    for backend in desk.backends.values() if pids else ():
        owners.update(await _claims(backend, entries, pids, beat))
    for use in uses:
        for process in use.processes:
            process.attempt = owners.get(process.pid, "")
    return list(uses)


async def _claims(backend: Backend, entries: Sequence[Entry], pids: Sequence[int], beat: Heartbeat) -> dict[int, str]:
    """The attempt that each process belongs to, as far as this backend can tell."""
    mine = {entry.instance: entry for entry in entries if entry.backend == backend.name and entry.handle}
    if not mine or not isinstance(backend, CanClaim):
        return {}
    try:
        async with asyncio.timeout(STATS_LIMIT):
            found = await backend.claim([entry.handle for entry in mine.values() if entry.handle], pids)
    except Exception as error:  # noqa: BLE001 - who owns a process is extra; the heartbeat names what is missing
        beat.missing[f"processes of {backend.name}"] = str(error) or type(error).__name__
        return {}
    return {pid: mine[instance].attempt for pid, instance in found.items() if instance in mine}


async def _stats(backend: Backend, handles: list[Handle], beat: Heartbeat) -> dict[str, tuple[float, int]]:
    if not handles:
        return {}
    try:
        async with asyncio.timeout(STATS_LIMIT):
            found = await backend.stats(handles[:MOST_STATS])
    except Exception as error:  # noqa: BLE001 - a plugin's statistics are extra; the heartbeat names what is missing
        beat.missing[f"stats of {backend.name}"] = str(error) or type(error).__name__
        return {}
    return {name: (stats.cpu_seconds or 0.0, stats.memory or 0) for name, stats in found.items()}
