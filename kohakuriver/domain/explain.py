"""What each node says to one task, for people who ask why. Pure, and never part of a plan."""

from collections.abc import Iterator

from kohakuriver.domain.needs import need_of
from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.reasons import node_obstacle, too_little
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.tasks import Kind, Task


def candidates(snapshot: Snapshot, task: Task) -> Iterator[tuple[Node, str | None]]:
    """Every node that is not revoked, with why it does not take the task now; None where it does."""
    for order, node in enumerate(snapshot.nodes):
        if node.status is not NodeStatus.REVOKED:
            yield node, _obstacle(node, Room(node, snapshot.reserved.get(node.id, ()), order), task)


def _obstacle(node: Node, room: Room, task: Task) -> str | None:
    spec = task.spec
    if spec.target is not None and spec.target.node != node.name:
        return f"the task asks for node {spec.target.node}"
    if spec.kind is Kind.VPS and task.node not in {None, node.id}:
        return "its disk is on another node"
    obstacle = node_obstacle(node, spec.backend)
    if obstacle is not None:
        return obstacle.text
    need = need_of(spec)
    return None if room.fits(need) else too_little(need, [room]).text
