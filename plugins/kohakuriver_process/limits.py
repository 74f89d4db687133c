"""Which means of limiting a workload there are on this machine, best first, and what each can apply."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kohakuriver.hooks.values import Grant
from kohakuriver_process.shepherd.spawn import Order

WHOLE_CORE = 1000


class Limits(Protocol):
    """One means. `name` is what the setting `limits` calls it."""

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, str]: ...

    def refuse(self, grant: Grant) -> list[str]:
        """What of the grant it cannot apply, in words."""
        ...

    def apply(self, order: Order, grant: Grant, body: str) -> None:
        """Writes the grant into the order. `body` names it uniquely on this machine."""
        ...


class Unavailable(Exception):
    """this means cannot be used here; the text says why"""


@dataclass(frozen=True, kw_only=True)
class Rlimits:
    """setrlimit(2) and sched_setaffinity(2): needs no rights, holds those who do not work against it."""

    name: str = "rlimits"
    facts: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, grant: Grant) -> list[str]:
        found = []
        if grant.cpu_milli is not None and grant.cpus is None and grant.cpu_milli % WHOLE_CORE:
            found.append(f"without cgroups a limit is whole cores, not {grant.cpu_milli / WHOLE_CORE:g}")
        if grant.pids is not None:
            found.append("without cgroups the number of processes cannot be limited")
        return found

    def apply(self, order: Order, grant: Grant, body: str) -> None:
        order["address_space"] = grant.memory
        pin(order, grant)
        if grant.cpu_milli is not None and grant.cpus is None:
            order["cpus"] = _share(sorted(os.sched_getaffinity(0)), grant.cpu_milli // WHOLE_CORE, body)


@dataclass(frozen=True, kw_only=True)
class NoLimits:
    """Nothing is enforced, as the operator chose; what was asked for is only counted."""

    name: str = "none"
    facts: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, grant: Grant) -> list[str]:  # noqa: ARG002
        return []

    def apply(self, order: Order, grant: Grant, body: str) -> None:  # noqa: ARG002
        return


def pin(order: Order, grant: Grant) -> None:
    """Processors and memory cell by inheritance: sched_setaffinity(2), set_mempolicy(2)."""
    if grant.cpus is not None:
        order["cpus"] = list(grant.cpus)
    if grant.numa is not None:
        order["cells"] = [grant.numa]


def _share(cpus: list[int], count: int, body: str) -> list[int]:
    """So many of the processors, beginning at one that depends on the body, so that bodies spread."""
    if count >= len(cpus):
        return []
    first = sum(body.encode()) % len(cpus)
    return [cpus[(first + i) % len(cpus)] for i in range(count)]


#: what a means must be able to apply to be chosen unasked
EVERYDAY = Grant(cpu_milli=1000, memory=1024**3)

Finder = Callable[[], Any]


def choose(wanted: str, finders: Mapping[str, Finder]) -> tuple[Limits, list[str]]:
    """The means to use, and why better ones are not. A wanted one that is unavailable raises Unavailable."""
    if wanted == "none":
        return NoLimits(), ["limits are off by configuration: nothing is enforced"]
    if wanted == "rlimits":
        return Rlimits(), []
    if wanted != "auto":
        found: Limits = finders[wanted]()
        return found, []
    reasons = []
    for name, find in finders.items():
        try:
            means: Limits = find()
        except Unavailable as error:
            reasons.append(f"{name}: {error}")
            continue
        lacking = means.refuse(EVERYDAY)
        if not lacking:
            return means, reasons
        reasons.append(f"{name}: {'; '.join(lacking)}")
    return Rlimits(), reasons
