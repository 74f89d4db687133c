"""Nodes as values: what the scheduler and the pages know of them at one moment. Knows no link and no store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Final

from kohakuriver.domain.resources import Device, Inventory, Reserved

#: seconds without a heartbeat, sent every 5 s, after which one is late
LATE_SECONDS: Final = 10.0
#: seconds without a word after which a node is offline
OFFLINE_SECONDS: Final = 30.0


class NodeStatus(StrEnum):
    """Whether a node can be reached. Computed, never stored, but for `revoked`."""

    ONLINE = "online"
    """linked, heartbeats in time"""
    SUSPECT = "suspect"
    """its link is gone or a heartbeat is late; it gets no new work, and its tasks are left alone"""
    OFFLINE = "offline"
    """silent for 30 s; its tasks are unreachable, not ended"""
    REVOKED = "revoked"
    """its credential was taken away"""


def liveness(connected: bool, silent_seconds: float | None) -> NodeStatus:
    """What a node's silence means. `silent_seconds` is monotonic time since its last word; None: never heard."""
    if silent_seconds is None or silent_seconds >= OFFLINE_SECONDS:
        return NodeStatus.OFFLINE
    if not connected or silent_seconds >= LATE_SECONDS:
        return NodeStatus.SUSPECT
    return NodeStatus.ONLINE


@dataclass(frozen=True, kw_only=True)
class Cordon:
    """Why a card gets no new work, since when, and who or what said so. What runs on it is left alone."""

    reason: str
    since: datetime
    by: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node at one moment."""

    id: int
    name: str
    status: NodeStatus
    draining: bool = False
    #: why it is draining, in its operator's words
    drain_reason: str = ""
    #: as last announced; without cells: it never told
    inventory: Inventory = field(default_factory=Inventory)
    #: names of the backends that work there
    backends: frozenset[str] = frozenset()
    #: backends that are installed there and do not work now, with the first problem in words
    unusable: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    #: cards that get no new work, by device id; the card's parts get none either
    cordons: Mapping[str, Cordon] = field(default_factory=dict)
    #: cpus set apart for pinned work, which unpinned work does not count on (contracts.md §6);
    #: None: none is set apart, any may be pinned, and unpinned work counts on those that are not
    pinnable: frozenset[int] | None = None
    #: it holds more than it has (recovered bodies), or its runner asked for no more
    full: bool = False
    full_reason: str = ""

    @property
    def known(self) -> bool:
        """Whether it ever said what it has."""
        return bool(self.inventory.cells)

    @cached_property
    def cards(self) -> tuple[Device, ...]:
        """The cards that processes and containers may be given."""
        return tuple(device for device in self._given if not self._cordoned(device))

    @cached_property
    def cordoned_cards(self) -> tuple[Device, ...]:
        """Those that would be among `cards` if they were not cordoned."""
        return tuple(device for device in self._given if self._cordoned(device)) if self.cordons else ()

    @property
    def _given(self) -> Iterator[Device]:
        return (device for device in self.inventory.devices if device.kind == "gpu" and "host" in device.modes)

    def _cordoned(self, device: Device) -> bool:
        return device.id in self.cordons or device.id.partition("/")[0] in self.cordons

    @property
    def obstacle(self) -> str | None:
        """Why it takes no new work at all, in words; None when it does."""
        if self.status is not NodeStatus.ONLINE:
            return f"is {self.status}"
        if self.draining:
            return f"is draining{_because(self.drain_reason)}"
        if self.full:
            return f"takes no new work{_because(self.full_reason)}"
        return None

    def lacks(self, backend: str | None) -> str | None:
        """Why the backend cannot be used there now, in words; None when it can. `backend` None: any will do."""
        if backend in self.backends or (backend is None and self.backends):
            return None
        if backend is None:
            problems = "; ".join(f"{name}: {problem}" for name, problem in sorted(self.unusable.items()))
            return f"has no usable backend{_because(problems)}"
        if backend in self.unusable:
            return f"cannot use backend {backend} now{_because(self.unusable[backend])}"
        return f"has no backend {backend}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


@dataclass(frozen=True)
class Snapshot:
    """All enrolled nodes at one moment, revoked ones too, and what attempts hold on each (by node id)."""

    nodes: tuple[Node, ...] = ()
    reserved: Mapping[int, tuple[Reserved, ...]] = field(default_factory=dict)
    #: the moment; None: it does not matter
    at: datetime | None = None
    #: seconds after `at` in which these tasks have ended at the latest; a task that is not there may run for ever
    ends: Mapping[int, float] = field(default_factory=dict)
    #: when a node was last given work, as a number that rises with every placement
    turns: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def names(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    def named(self, name: str) -> Node | None:
        """The node of that name. Names are lower case, as `parse_target` gives them."""
        return self.names.get(name)
