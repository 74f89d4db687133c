"""Why a task waits, in numbers. Reasons are computed with every plan and never stored (contracts.md §1, rule 9)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kohakuriver.domain.labels import Constraint
from kohakuriver.domain.needs import Free, Need
from kohakuriver.domain.nodes import Node, NodeStatus
from kohakuriver.domain.resources import MILLI, Device
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.units import show_size

#: nodes named in one sentence
MOST_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A stable code and a sentence.

    Codes: approval, paused, ending, owner_limit, array_limit, dependency, environment, no_nodes, unknown_node,
    node_unavailable, backend, resources, never_fits, contradiction.
    """

    code: str
    text: str


NO_NODES: Final = Reason(
    code="no_nodes", text="no node is enrolled yet; `kohakuriver node token NAME` prints how to add one"
)


def waits_for(total: int, still: Collection[int]) -> Reason:
    """Why a task waits that is to start after `total` others, while `still` of them have not ended."""
    what = "task" if total == 1 else "tasks"
    return Reason(code="dependency", text=f"waits for {len(still)} of {total} {what}; next {min(still)}")


def unknown_node(name: str) -> Reason:
    return Reason(code="unknown_node", text=f"{name} is not an enrolled node; `kohakuriver node list` shows those")


def node_obstacle(node: Node, backend: str | None) -> Reason | None:
    """Why this very node cannot take the work now whatever its size; None when it can."""
    if node.obstacle is not None:
        return Reason(code="node_unavailable", text=f"{node.name} {node.obstacle}")
    lacking = node.lacks(backend)
    return None if lacking is None else Reason(code="backend", text=f"{node.name} {lacking}")


def no_node_takes_it(nodes: Sequence[Node], backend: str | None) -> Reason:
    """Why none of these nodes, all with an obstacle, takes the work now."""
    enrolled = [node for node in nodes if node.status is not NodeStatus.REVOKED]
    if not enrolled:
        return NO_NODES
    obstacles = [reason for node in enrolled if (reason := node_obstacle(node, backend)) is not None]
    if len(obstacles) == 1:
        return obstacles[0]
    code = "backend" if any(reason.code == "backend" for reason in obstacles) else "node_unavailable"
    more = len(obstacles) - MOST_NAMED
    named = ", ".join(reason.text for reason in obstacles[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return Reason(code=code, text=f"no node takes it now: {named}")


def waits_until(ready: datetime) -> Reason:
    """It is tried again, and not at once."""
    return Reason(code="not_yet", text=f"waits until {ready:%Y-%m-%d %H:%M:%S} UTC to be tried again")


def would_delay(node: Node, task: int | None) -> Reason:
    """There is room, which is kept for somebody who comes before it."""
    whom = "a task" if task is None else f"task {task}"
    return Reason(
        code="kept",
        text=f"would fit on {node.name}, where it might hold up {whom}, which comes before it; a shorter time limit may"
        " let it pass",
    )


def label_missing(nodes: Sequence[Node], constraints: Sequence[Constraint]) -> Reason:
    """No node has all the labels, or lacks all, that it asks for."""
    count = "the only node" if len(nodes) == 1 else f"none of {len(nodes)} nodes"
    verb = "does not have" if len(nodes) == 1 else "has"
    for constraint in constraints:
        if any(constraint.holds(node.labels) for node in nodes):
            continue
        values = sorted({node.labels[constraint.key] for node in nodes if constraint.key in node.labels})
        more = f" and {len(values) - MOST_NAMED} more" if len(values) > MOST_NAMED else ""
        has = f"there is {', '.join(values[:MOST_NAMED])}{more}" if values else f"none has a label {constraint.key}"
        return Reason(code="labels", text=f"{count} {verb} {constraint}; {has}")
    asked = ", ".join(map(str, constraints))
    best = max(sum(constraint.holds(node.labels) for constraint in constraints) for node in nodes)
    return Reason(
        code="labels", text=f"{count} {verb} all of {asked}; at most {best} of {len(constraints)} hold on one node"
    )


def too_little(need: Need, rooms: Sequence[Room]) -> Reason:
    """What is needed against what is free on the node that comes nearest."""
    free, room = _nearest(need, rooms)
    text = f"needs {_needed(need)}; most free is {_given(need, free)} on {room.node.name}"
    return Reason(code="resources", text=text + _cordons(need, free, room.node))


def too_small(need: Need, rooms: Sequence[Room]) -> Reason:
    """What is needed against what the nearest node has when it is empty."""
    free, room = _nearest(need, rooms)
    return Reason(
        code="never_fits", text=f"needs {_needed(need)}; the most is {_given(need, free)} on {room.node.name}"
    )


def _cordons(need: Need, free: Free, node: Node) -> str:
    """Which cards would serve and get no work, and why."""
    if not free.cordoned:
        return ""
    marks = [
        node.cordons.get(device.id) or node.cordons[device.id.partition("/")[0]]
        for device in node.cordoned_cards
        if need.serves(device)
    ]
    reasons = list(dict.fromkeys(mark.reason for mark in marks))
    more = f" and {len(reasons) - MOST_NAMED} more reasons" if len(reasons) > MOST_NAMED else ""
    count = "1 card is" if free.cordoned == 1 else f"{free.cordoned} cards are"
    return f"; {count} cordoned: {', '.join(reasons[:MOST_NAMED])}{more}"


def _nearest(need: Need, rooms: Sequence[Room]) -> tuple[Free, Room]:
    return max(((room.free_for(need), room) for room in rooms), key=lambda pair: (need.share(pair[0]), -pair[1].order))


def _needed(need: Need) -> str:
    parts = [cores(need.milli) + (" of its own" if need.pinned else "")]
    if need.memory:
        parts.append(show_size(need.memory))
    if need.count:
        parts.append(_wanted_devices(need))
    where = "" if need.cell is None else f" in NUMA cell {need.cell}"
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts) + where


def _wanted_devices(need: Need) -> str:
    text = f"{_gpus(need.count)} {_indices(need.indices)}" if need.indices else f"{need.count} {_gpus(need.count)}"
    if need.model:
        text += f" of model {need.model}"
    return text + (f" with {show_size(need.least)} each" if need.least else "")


def _given(need: Need, free: Free) -> str:
    parts = [cores(free.milli)]
    if need.memory:
        parts.append(show_size(free.memory))
    if need.indices:
        parts.append(_listed(free.devices))
    elif need.count:
        count = len(free.devices)
        parts.append(f"{count} such {_gpus(count)}" if need.model or need.least else f"{count} {_gpus(count)}")
    return ", ".join(parts)


def _listed(devices: Sequence[Device]) -> str:
    indices = sorted(device.index for device in devices if device.index is not None)
    return f"{_gpus(len(indices))} {_indices(indices)}" if indices else "none of these GPUs"


def _gpus(count: int) -> str:
    return "GPU" if count == 1 else "GPUs"


def _indices(indices: Sequence[int]) -> str:
    return ",".join(map(str, indices))


def cores(milli: int) -> str:
    """The amount in words: 1 core, 2 cores, 0.5 cores."""
    whole, rest = divmod(milli, MILLI)
    figure = f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)
    return f"{figure} core" if figure == "1" else f"{figure} cores"


def not_there(need: Need, node: Node) -> Reason | None:
    """The NUMA cell or the cards that the target names and the node does not have."""
    if need.cell is not None and node.inventory.cell(need.cell) is None:
        has = _indices([cell.id for cell in node.inventory.cells])
        return Reason(code="never_fits", text=f"{node.name} has no NUMA cell {need.cell}; it has {has}")
    known = sorted({device.index for device in node.inventory.devices if device.index is not None})
    missing = [index for index in need.indices if index not in known]
    if missing:
        has = f"it has {_indices(known)}" if known else "it has none"
        return Reason(code="never_fits", text=f"{node.name} has no GPU {_indices(missing)}; {has}")
    return None
