"""Who runs where: `plan` places what fits, in order, and says with numbers why the rest waits.

Order: higher priority first, then older. What cannot start yet does not hold back what can. Tasks that ask for the
same are one shape: a shape that does not fit is answered once, so that a placement costs the same in a long queue.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kohakuriver.domain.limits import Held, Limits, Usage, array_full, over_limit
from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.reasons import (
    NO_NODES,
    Reason,
    no_node_takes_it,
    node_obstacle,
    not_there,
    too_little,
    too_small,
    unknown_node,
)
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.rooms import Need, Room, need_of
from kohakuriver.domain.tasks import Kind, Status, Task, TaskSpec, Wanted

#: how good a node would be, among those on which the need fits: the lowest wins
Strategy = Callable[[Room, Need], Any]


def pack(room: Room, need: Need) -> tuple[int, int, int, int]:
    """The fullest node that will do, and one with few free cards where none is asked for."""
    return len(room.devices), room.free_for(need).milli if need.pinned else room.milli, room.memory, room.order


@dataclass(frozen=True, kw_only=True)
class Placement:
    """This task goes there with this reservation. Its generation is the one that `Placed` will give it."""

    task: int
    node: int
    reserved: Reserved


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Placements in the order in which they were made; for every other pending task a reason."""

    placements: tuple[Placement, ...] = ()
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    #: how many waiting tasks come before this one
    ahead: Mapping[int, int] = field(default_factory=dict)

    def explain(self, task: int) -> str | None:
        """The reason and the place in the queue as one sentence; None when the plan places it or does not know it."""
        reason = self.reasons.get(task)
        if reason is None:
            return None
        ahead = self.ahead.get(task)
        return reason.text if ahead is None else f"{reason.text}; {ahead} ahead of it"


_PAUSED: Final = Reason(code="paused", text="is wanted paused; resume it to let it start")
_ENDING: Final = Reason(code="ending", text="is wanted ended")
_APPROVAL: Final = Reason(code="approval", text="waits for an operator's approval")


class _Shape:
    """Everything that decides where tasks of one kind can go. `rooms` are those where it may still fit."""

    __slots__ = ("backend", "bound", "need", "node", "rooms")

    def __init__(self, task: Task, rooms: Iterable[Room]) -> None:
        spec = task.spec
        self.need = need_of(spec)
        self.backend = spec.backend
        self.node = spec.target.node if spec.target else None
        self.bound = _bound(task)
        self.rooms = [
            room for room in rooms if self._here(room.node) and node_obstacle(room.node, spec.backend) is None
        ]

    def _here(self, node: Node) -> bool:
        return self.node in {None, node.name} and self.bound in {None, node.id}

    def place(self, strategy: Strategy) -> Room | None:
        """The best node on which it fits now; None means never again in this plan, for rooms only shrink."""
        need = self.need
        self.rooms = [room for room in self.rooms if room.fits(need)]
        return min(self.rooms, key=lambda room: strategy(room, need)) if self.rooms else None

    def why(self, rooms: list[Room]) -> Reason:
        """Why it does not fit, by what is free at the end of the plan."""
        here = [room for room in rooms if self._here(room.node)]
        if not here:
            if not rooms:
                return NO_NODES
            return unknown_node(self.node or f"node {self.bound}, which holds its disk,")
        open_rooms = [room for room in here if node_obstacle(room.node, self.backend) is None]
        if not open_rooms:
            return no_node_takes_it([room.node for room in here], self.backend)
        return too_little(self.need, open_rooms)


#: the shape that waits, and the owner whose limit keeps it, or None where it is room that lacks
_Cause = tuple[_Shape, int | None]


def plan(snapshot: Snapshot, queue: Iterable[Task], usage: Usage | None = None, strategy: Strategy = pack) -> Plan:
    """Where each waiting task goes now. Pure: the same arguments give the same plan.

    Tasks of `queue` that do not wait for anything (neither pending nor for approval) are passed over.
    """
    work = _Planner(snapshot, usage or Usage(), strategy)
    for task in sorted(queue, key=_rank):
        work.consider(task)
    return work.result()


def _rank(task: Task) -> tuple[int, int]:
    return -task.spec.priority, task.id


def _bound(task: Task) -> int | None:
    """The node that a VPS cannot leave, for its disk is there."""
    return task.node if task.spec.kind is Kind.VPS else None


class _Planner:
    """One plan in the making."""

    def __init__(self, snapshot: Snapshot, usage: Usage, strategy: Strategy) -> None:
        nodes = [node for node in snapshot.nodes if node.status is not NodeStatus.REVOKED]
        self._rooms = [Room(node, snapshot.reserved.get(node.id, ()), order) for order, node in enumerate(nodes)]
        self._limits = usage.limits
        self._held = dict(usage.held)
        self._arrays = Counter(usage.arrays)
        self._blocked = usage.blocked
        self._strategy = strategy
        self._shapes: dict[object, _Shape] = {}
        self._placements: list[Placement] = []
        #: reasons that need no looking at the nodes
        self._told: dict[int, Reason] = {}
        self._waiting: dict[int, _Cause] = {}

    def consider(self, task: Task) -> None:
        if task.status is not Status.PENDING:
            if task.status is Status.PENDING_APPROVAL:
                self._told[task.id] = _APPROVAL
            return
        if task.wanted is not Wanted.RUN:
            self._told[task.id] = _PAUSED if task.wanted is Wanted.PAUSED else _ENDING
            return
        blocked = self._blocked.get(task.id)
        if blocked is not None:
            self._told[task.id] = blocked
            return
        element = task.spec.array
        full = None if element is None else array_full(element, self._arrays[task.batch])
        if full is not None:
            self._told[task.id] = full
            return
        shape = self._shape(task)
        limits = self._limits.get(task.owner)
        if limits is not None and over_limit(limits, self._held.get(task.owner, Held()), shape.need) is not None:
            self._waiting[task.id] = (shape, task.owner)
            return
        room = shape.place(self._strategy) if shape.rooms else None
        if room is None:
            self._waiting[task.id] = (shape, None)
            return
        reserved = room.take(shape.need, task.id, task.generation + 1)
        if element is not None:
            self._arrays[task.batch] += 1
        self._placements.append(Placement(task=task.id, node=room.node.id, reserved=reserved))
        if limits is not None:
            self._held[task.owner] = self._held.get(task.owner, Held()).plus(shape.need)

    def _shape(self, task: Task) -> _Shape:
        spec = task.spec
        key = (spec.request, spec.target, spec.backend, _bound(task))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = _Shape(task, self._rooms)
        return shape

    def result(self) -> Plan:
        return Plan(
            placements=tuple(self._placements),
            reasons=_Reasons(self._told, self._waiting, self._word),
            ahead={task: ahead for ahead, task in enumerate(self._waiting)},
        )

    def _word(self, shape: _Shape, owner: int | None) -> Reason:
        if owner is None:
            return shape.why(self._rooms)
        reason = over_limit(self._limits[owner], self._held.get(owner, Held()), shape.need)
        assert reason is not None
        return reason


class _Reasons(Mapping[int, Reason]):
    """Reasons by what is left at the end of the plan, worded when somebody asks, once for all tasks of a shape."""

    def __init__(
        self, told: dict[int, Reason], waiting: dict[int, _Cause], word: Callable[[_Shape, int | None], Reason]
    ) -> None:
        self._told = told
        self._waiting = waiting
        self._word = word
        self._worded: dict[_Cause, Reason] = {}

    def __getitem__(self, task: int) -> Reason:
        cause = self._waiting.get(task)
        if cause is None:
            return self._told[task]
        reason = self._worded.get(cause)
        if reason is None:
            reason = self._worded[cause] = self._word(*cause)
        return reason

    def __iter__(self) -> Iterator[int]:
        yield from self._told
        yield from self._waiting

    def __len__(self) -> int:
        return len(self._told) + len(self._waiting)


def never_fits(snapshot: Snapshot, spec: TaskSpec) -> Reason | None:
    """Why no enrolled node could ever run it, even empty; None when one could, or when nobody can know yet.

    A node that is offline, draining or full counts; one that never told what it has could have anything. The caller
    answers an unknown target with NotFound before; here it is a reason like another.
    """
    need = need_of(spec)
    if need.indices and spec.request.devices.count not in {0, len(need.indices)}:
        text = f"GPUs named by the target: {len(need.indices)}, asked for by count: {spec.request.devices.count}"
        return Reason(code="contradiction", text=text)
    nodes = [node for node in snapshot.nodes if node.status is not NodeStatus.REVOKED]
    if spec.target is not None:
        nodes = [node for node in nodes if node.name == spec.target.node]
        if not nodes:
            return unknown_node(spec.target.node)
    if not nodes or not all(node.known for node in nodes):
        return None
    able = [node for node in nodes if _could_use(node, spec.backend)]
    if not able:
        return _no_backend(nodes, spec.backend)
    rooms = [Room(node, (), order) for order, node in enumerate(able)]
    if any(room.fits(need) for room in rooms):
        return None
    return (not_there(need, able[0]) if spec.target else None) or too_small(need, rooms)


def _could_use(node: Node, backend: str | None) -> bool:
    installed = node.backends | node.unusable.keys()
    return bool(installed) if backend is None else backend in installed


def _no_backend(nodes: list[Node], backend: str | None) -> Reason:
    if backend is None:
        return Reason(code="never_fits", text="no node that could take it has a backend enabled")
    known = sorted(frozenset[str]().union(*(node.backends for node in nodes)))
    there = f"there are {', '.join(known)}" if known else "none is enabled"
    return Reason(code="never_fits", text=f"no node that could take it has backend {backend}; {there}")


def beyond_limits(limits: Limits, spec: TaskSpec) -> Reason | None:
    """Why this owner's limits would never let it start, even with nothing else under way; None when they would."""
    return over_limit(limits, Held(), need_of(spec))
