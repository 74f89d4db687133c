"""The nodes as the host knows them: enrolled facts as committed, and what is live, in memory.

Status is derived from the session and from silence, never stored.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kohakuriver.domain.nodes import Cordon, Node, NodeStatus, liveness
from kohakuriver.domain.resources import Inventory
from kohakuriver.errors import NotFound
from kohakuriver.host.conduct import Conduct
from kohakuriver.host.session import Session
from kohakuriver.host.use import NodeUse
from kohakuriver.wire.link import BackendInfo, Heartbeat, SyncerInfo, WireCell
from kohakuriver.wire.machine import cell_of

#: heartbeats kept for graphs: five minutes at the usual pace
HISTORY = 60


@dataclass(kw_only=True)
class Member:
    """One enrolled node. Times of `heard` are monotonic seconds of this host."""

    id: int
    name: str
    revoked: bool = False
    draining: bool = False
    drain_reason: str = ""
    quarantine: str | None = None
    #: labels that its runner announced, and those that an operator gave it, which win
    labels: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    #: cards that get no new work, by device id
    cordons: dict[str, Cordon] = field(default_factory=dict)
    cells: list[WireCell] = field(default_factory=list)
    backends: list[BackendInfo] = field(default_factory=list)
    #: as its runner told last since this host started
    syncers: list[SyncerInfo] = field(default_factory=list)
    epoch: int = 0
    boot: str = ""
    version: str = ""
    acknowledged: int = 0
    allocation: int = 0
    pinnable: frozenset[int] | None = None
    created: datetime
    session: Session | None = None
    heard: float | None = None
    beat: Heartbeat | None = None
    skew: float | None = None
    history: deque[tuple[datetime, Heartbeat]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    inventory: Inventory = field(default_factory=Inventory)
    conduct: Conduct = field(default_factory=Conduct)
    #: when its cards and attempts were at work
    use: NodeUse = field(default_factory=NodeUse)
    #: held by who changes its cordons or labels
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: it refused work for now; until this moment it gets none
    busy_until: float = 0.0
    busy_reason: str = ""

    @property
    def every_label(self) -> dict[str, str]:
        return {**self.labels, **self.given}

    @property
    def connected(self) -> bool:
        return self.session is not None and self.session.live

    def silent(self, now: float) -> float | None:
        """Seconds without a word; None when it has not been heard since this host started."""
        return None if self.heard is None else max(0.0, now - self.heard)

    def status(self, now: float) -> NodeStatus:
        if self.revoked:
            return NodeStatus.REVOKED
        return liveness(self.connected, self.silent(now))

    def full_reason(self, now: float) -> str:
        """Why it takes no new work, in words; empty when it does."""
        if self.quarantine:
            return self.quarantine
        return self.busy_reason if now < self.busy_until else ""

    def learn(self, cells: list[WireCell], backends: list[BackendInfo], pinnable: Sequence[int] | None = None) -> None:
        """Takes what hello or refresh said of the machine. The cells have no `inventory.fault`."""
        self.cells, self.backends = cells, backends
        self.pinnable = None if pinnable is None else frozenset(pinnable)
        self.inventory = Inventory(cells=tuple(cell_of(cell) for cell in cells))

    def snapshot(self, now: float) -> Node:
        """As placement sees it."""
        return Node(
            id=self.id,
            name=self.name,
            status=self.status(now),
            draining=self.draining,
            drain_reason=self.drain_reason,
            inventory=self.inventory,
            backends=frozenset(backend.name for backend in self.backends if backend.usable),
            labels=self.every_label,
            cordons=self.cordons,
            pinnable=self.pinnable,
            unusable={b.name: (b.problems or ["it cannot be used"])[0] for b in self.backends if not b.usable},
            full=bool(self.full_reason(now)),
            full_reason=self.full_reason(now),
        )


class Roster:
    """Every node that is enrolled, and those that were revoked."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._members = {member.id: member for member in members}

    def get(self, node: int) -> Member | None:
        return self._members.get(node)

    def add(self, member: Member) -> None:
        self._members[member.id] = member

    def all(self) -> list[Member]:
        """All, revoked ones too."""
        return list(self._members.values())

    def live(self) -> list[Member]:
        """All that are not revoked, by name."""
        return sorted((m for m in self._members.values() if not m.revoked), key=lambda member: member.name)

    def named(self, name: str) -> Member | None:
        """The node that has this name now."""
        return next((m for m in self._members.values() if m.name == name and not m.revoked), None)

    def find(self, ref: str) -> Member:
        """By name, or by id (also a revoked one). Raises NotFound."""
        member = self.named(ref.lower())
        if member is None and ref.isascii() and ref.isdigit() and len(ref) < 20:
            member = self.get(int(ref))
        if member is None:
            raise NotFound(f"there is no node {ref!r}; `kohakuriver node list` shows them", field="node", value=ref)
        return member

    def name_of(self, node: int | None) -> str | None:
        member = None if node is None else self.get(node)
        return None if member is None else member.name

    def unreachable(self, node: int | None, now: float) -> bool:
        """Whether a task on this node can be heard of at present."""
        member = None if node is None else self.get(node)
        return member is not None and member.status(now) is not NodeStatus.ONLINE
