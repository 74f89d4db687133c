"""What tasks of one kind ask for, and on which nodes of one plan that may still be had."""

from collections.abc import Iterable, Sequence

from kohakuriver.domain.labels import missing
from kohakuriver.domain.needs import need_of
from kohakuriver.domain.nodes import Node
from kohakuriver.domain.queue import bound
from kohakuriver.domain.reasons import (
    NO_NODES,
    Reason,
    label_missing,
    no_node_takes_it,
    node_obstacle,
    too_little,
    unknown_node,
)
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.tasks import Task


class Shape:
    """Everything that decides where tasks of one kind can go. `rooms` are those where it may still fit now, `able`
    those that take such work at all.
    """

    __slots__ = ("able", "backend", "bound", "constraints", "need", "node", "rooms")

    def __init__(self, task: Task, rooms: Iterable[Room]) -> None:
        spec = task.spec
        self.need = need_of(spec)
        self.backend = spec.backend
        self.node = spec.target.node if spec.target else None
        self.constraints = spec.constraints
        self.bound = bound(task)
        self.able = [room for room in rooms if self._takes(room.node)]
        self.rooms = self.able

    def _takes(self, node: Node) -> bool:
        return (
            self.here(node) and node_obstacle(node, self.backend) is None and not missing(self.constraints, node.labels)
        )

    def here(self, node: Node) -> bool:
        """Whether it is bound to no other node."""
        return self.node in {None, node.name} and self.bound in {None, node.id}

    def fitting(self) -> list[Room]:
        """The rooms on which it fits now; none means never again in this plan, for rooms only shrink."""
        need = self.need
        self.rooms = [room for room in self.rooms if room.fits(need)]
        return self.rooms

    def why(self, rooms: Sequence[Room]) -> Reason:
        """Why it does not fit, by what is free in these rooms."""
        here = [room for room in rooms if self.here(room.node)]
        if not here:
            if not rooms:
                return NO_NODES
            return unknown_node(self.node or f"node {self.bound}, which holds its disk,")
        labelled = [room for room in here if missing(self.constraints, room.node.labels) is None]
        if not labelled:
            return label_missing([room.node for room in here], self.constraints)
        open_rooms = [room for room in labelled if node_obstacle(room.node, self.backend) is None]
        if not open_rooms:
            return no_node_takes_it([room.node for room in labelled], self.backend)
        return too_little(self.need, open_rooms)
