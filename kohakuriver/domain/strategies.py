"""Which of the nodes that fit a task gets it: strategies as functions, by name. The lowest answer wins."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kohakuriver.domain.needs import Need
from kohakuriver.domain.rooms import Room

#: how good a node would be, among those on which the need fits: the lowest wins
Strategy = Callable[[Room, Need], Any]


def pack(room: Room, need: Need) -> tuple[int, int, int, int]:
    """The fullest node that will do, and one with few free cards where none is asked for."""
    return len(room.devices), room.free_for(need).milli if need.pinned else room.milli, room.memory, room.order


def spread(room: Room, need: Need) -> tuple[int, float, float, int]:
    """The node of which the smallest part is taken; cards are kept for those who ask for them."""
    whole = room.node.inventory.amount
    taken = 1 - room.milli / max(1, whole.cpu_milli)
    cards = 0 if need.count else bool(room.devices)
    return cards, taken, 1 - room.memory / max(1, whole.memory), room.order


def first_fit(room: Room, need: Need) -> int:
    """The first node by name on which it fits."""
    del need
    return room.order


def round_robin(room: Room, need: Need) -> tuple[int, int]:
    """The node that was given work least recently."""
    del need
    return room.turn, room.order


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "pack": pack,
    "spread": spread,
    "first-fit": first_fit,
    "round-robin": round_robin,
}
WORDS: Final[Mapping[Strategy, str]] = {
    pack: "the fullest node that will do",
    spread: "the emptiest node",
    first_fit: "the first node that will do",
    round_robin: "the node given work least recently",
}
