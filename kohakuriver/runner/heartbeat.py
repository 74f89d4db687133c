"""The state of the machine and of what runs on it, measured now and then. Only the newest counts."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Handle
from kohakuriver.runner.desk import Desk
from kohakuriver.runner.probes import cpu, disk, memory, temperature
from kohakuriver.runner.probes.reading import Missing
from kohakuriver.wire.link import Heartbeat

log = logging.getLogger(__name__)

#: attempts in one heartbeat, so that it stays a small message
MOST_STATS = 2000
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
