"""How much one owner may hold at once, and how much that is now. Simple sums; queues and fair shares come above it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kohakuriver.domain.arrays import Element
from kohakuriver.domain.needs import Need
from kohakuriver.domain.reasons import Reason, cores
from kohakuriver.domain.resources import MILLI, Reserved
from kohakuriver.domain.units import show_size


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one owner may hold at once; None is no limit. Memory in bytes."""

    tasks: int | None = None
    cores: int | None = None
    memory: int | None = None
    devices: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """These, with the defaults where they say nothing; here and there 0 is no limit."""
        return Limits(
            tasks=_first(self.tasks, defaults.tasks),
            cores=_first(self.cores, defaults.cores),
            memory=_first(self.memory, defaults.memory),
            devices=_first(self.devices, defaults.devices),
        )


def _first(own: int | None, default: int | None) -> int | None:
    return (default if own is None else own) or None


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one owner holds: attempts with a reservation, and their sums."""

    tasks: int = 0
    cpu_milli: int = 0
    memory: int = 0
    devices: int = 0

    def plus(self, other: "Held") -> "Held":
        return Held(
            tasks=self.tasks + other.tasks,
            cpu_milli=self.cpu_milli + other.cpu_milli,
            memory=self.memory + other.memory,
            devices=self.devices + other.devices,
        )

    def minus(self, other: "Held") -> "Held":
        return Held(
            tasks=self.tasks - other.tasks,
            cpu_milli=self.cpu_milli - other.cpu_milli,
            memory=self.memory - other.memory,
            devices=self.devices - other.devices,
        )


def held_for(need: Need) -> Held:
    """What one attempt with this need holds."""
    return Held(tasks=1, cpu_milli=need.milli, memory=need.memory, devices=need.count)


def held_of(reserved: Reserved) -> Held:
    """What the attempt with this reservation holds."""
    return Held(tasks=1, cpu_milli=reserved.cpu_milli, memory=reserved.memory, devices=len(reserved.devices))


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What owners hold and may hold, by user id, and what of limited arrays is under way. An owner without limits has
    none.
    """

    held: Mapping[int, Held] = field(default_factory=dict)
    limits: Mapping[int, Limits] = field(default_factory=dict)
    #: by batch, for arrays with a limit of their own
    arrays: Mapping[int, int] = field(default_factory=dict)
    #: tasks that wait for the end of others, with what to say of it
    blocked: Mapping[int, Reason] = field(default_factory=dict)


def over_limit(limits: Limits, held: Held, need: Need) -> Reason | None:
    """The first limit that one more attempt would break, with numbers; None when it breaks none."""
    after = held.plus(held_for(need))
    if limits.tasks is not None and after.tasks > limits.tasks:
        return _reason(f"its owner has {held.tasks} of at most {limits.tasks} tasks under way")
    if limits.cores is not None and after.cpu_milli > limits.cores * MILLI:
        return _over(cores(need.milli), cores(held.cpu_milli), cores(limits.cores * MILLI))
    if limits.memory is not None and after.memory > limits.memory:
        return _over(show_size(need.memory), show_size(held.memory), show_size(limits.memory))
    if limits.devices is not None and after.devices > limits.devices:
        return _over(
            f"{need.count} GPU" if need.count == 1 else f"{need.count} GPUs", str(held.devices), str(limits.devices)
        )
    return None


def array_full(element: Element, under_way: int) -> Reason | None:
    """Why one more task of this array would be too many; None when it would not."""
    if element.most is None or under_way < element.most:
        return None
    return Reason(code="array_limit", text=f"{under_way} of its array run, at most {element.most}")


def _over(needed: str, held: str, limit: str) -> Reason:
    return _reason(f"needs {needed}; its owner holds {held} of at most {limit}")


def _reason(text: str) -> Reason:
    return Reason(code="owner_limit", text=text)
