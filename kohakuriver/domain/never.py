"""What could never start, whatever ends: told at submit, with numbers."""

from dataclasses import replace

from kohakuriver.domain.labels import missing
from kohakuriver.domain.needs import need_of
from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.reasons import Reason, label_missing, not_there, too_small, unknown_node
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.tasks import TaskSpec


def never_fits(snapshot: Snapshot, spec: TaskSpec) -> Reason | None:
    """Why no enrolled node could ever run it, even empty; None when one could, or when nobody can know yet.

    A node that is offline, draining or full counts, and so does a cordoned card; a node that never told what it has
    could have anything. The caller answers an unknown target with NotFound before; here it is a reason like another.
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
    labelled = [node for node in nodes if missing(spec.constraints, node.labels) is None]
    if not labelled:
        return label_missing(nodes, spec.constraints)
    able = [node for node in labelled if _could_use(node, spec.backend)]
    if not able:
        return _no_backend(labelled, spec.backend)
    rooms = [Room(replace(node, cordons={}), (), order) for order, node in enumerate(able)]
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
