"""Which of the nodes that fit a task gets it: strategies as functions, by name. The lowest answer wins."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kohakuriver.domain.needs import Need
from kohakuriver.domain.reasons import cores
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.units import show_size

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


def why_not(strategy: Strategy, best: Room, other: Room) -> str:
    """Why the strategy takes the best and not the other, both of which would do, with numbers where it counts some."""
    name = best.node.name
    if strategy in {pack, spread} and len(best.devices) != len(other.devices):
        return f"{name} has fewer free cards: {len(best.devices)}, here {len(other.devices)}"
    there, here = (f"{cores(max(0, room.milli))}, {show_size(max(0, room.memory))}" for room in (best, other))
    if strategy is pack:
        return f"{name} is fuller: {there} free, here {here}" if there != here else f"{name} is as full and comes first"
    if strategy is spread:
        return f"a smaller part of {name} is taken: {there} free, here {here}"
    if strategy is round_robin:
        return f"{name} was given work less recently"
    return f"{name} comes first"
