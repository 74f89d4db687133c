"""When each card and each attempt of a node was last at work, from its heartbeats; in memory, begun anew with the host.

Times are monotonic seconds of this host.
"""

from dataclasses import dataclass

from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.link import (
    Heartbeat,
)

#: what is used less is idle: a fraction of a card, and of a core
LEAST_UTILIZATION = 0.01
LEAST_CORES = 0.01
#: a reservation that was idle for so long is told as unused
UNUSED_SECONDS = 600.0


@dataclass(kw_only=True)
class Work:
    """One attempt: what it had used when it was last heard of, cores in use since the time before, last at work."""

    cpu_seconds: float
    memory: int
    heard: float
    cores: float | None = None
    active: float


class NodeUse:
    """The cards by device id, the attempts by name. What the newest heartbeat does not name is forgotten."""

    def __init__(self) -> None:
        self.cards: dict[str, DeviceUse] = {}
        self.attempts: dict[str, Work] = {}
        self._active: dict[str, float] = {}

    def take(self, beat: Heartbeat, now: float) -> None:
        """A heartbeat came. What is seen for the first time counts as at work until now."""
        self.cards = {use.id: use for use in beat.devices}
        known = self._active
        self._active = {name: now if _busy(use) else known.get(name, now) for name, use in self.cards.items()}
        self.attempts = {name: self._work(name, *stats, now) for name, stats in beat.stats.items()}

    def card_idle(self, device: str, now: float) -> float | None:
        """Seconds for which nothing has run on the card; None: it does not tell."""
        return max(0.0, now - self._active[device]) if device in self._active else None

    def attempt_idle(self, attempt: str, now: float) -> float | None:
        """Seconds for which the attempt used no processor; None: nobody tells."""
        work = self.attempts.get(attempt)
        return None if work is None else max(0.0, now - work.active)

    def _work(self, name: str, cpu_seconds: float, memory: int, now: float) -> Work:
        before = self.attempts.get(name)
        if before is None or cpu_seconds < before.cpu_seconds:
            return Work(cpu_seconds=cpu_seconds, memory=memory, heard=now, active=now)
        passed = now - before.heard
        cores = (cpu_seconds - before.cpu_seconds) / passed if passed > 0 else before.cores
        busy = cores is None or cores >= LEAST_CORES
        active = now if busy else before.active
        return Work(cpu_seconds=cpu_seconds, memory=memory, heard=now, cores=cores, active=active)


def _busy(use: DeviceUse) -> bool:
    """A part of a card tells no utilisation: there a process counts as work."""
    return bool(use.processes) if use.utilization is None else use.utilization >= LEAST_UTILIZATION
