"""What is free on one node while a plan is made: mutable, and never seen outside a plan.

In a plan free amounts only shrink, so what does not fit once does not fit again; `give_back` is for looking ahead.
"""

from collections.abc import Iterable, Sequence
from typing import Self

from kohakuriver.domain import cards
from kohakuriver.domain.needs import Free, Need
from kohakuriver.domain.nodes import Node
from kohakuriver.domain.resources import MILLI, Cell, Device, Reserved


class Room:
    """One node's free cores, memory and cards. `order` is its place in the snapshot, for ties."""

    __slots__ = (
        "_apart",
        "cell_memory",
        "cpus",
        "devices",
        "held",
        "memory",
        "milli",
        "node",
        "order",
        "taken",
        "turn",
    )

    def __init__(self, node: Node, held: Iterable[Reserved], order: int) -> None:
        inventory = node.inventory
        self.node = node
        self.order = order
        #: when it was last given work, in a count over all nodes; for strategies that take turns
        self.turn = 0
        self._apart = node.pinnable is not None
        everything = inventory.every_cpu
        self.cpus = set(everything) if node.pinnable is None else set(everything & node.pinnable)
        #: thousandths of cores that work without cpus of its own can still have
        self.milli = (len(everything) - (len(self.cpus) if self._apart else 0)) * MILLI
        self.memory = inventory.memory
        self.cell_memory = {cell.id: cell.memory for cell in inventory.cells}
        #: cards that may be given now
        self.devices = list(node.cards)
        #: ids of cards that are not, for somebody has them
        self.taken: list[str] = []
        #: who has something here, with what this plan added
        self.held: list[Reserved] = []
        for reserved in held:
            self.subtract(reserved)

    @property
    def has_a_core(self) -> bool:
        """Whether the smallest need might be met."""
        return self.milli >= MILLI or (self._apart and bool(self.cpus))

    def fits(self, need: Need) -> bool:
        """Whether the need can be met now. Never wrong in either direction: `take` succeeds exactly then."""
        if need.memory > self.memory:
            return False
        if not need.pinned:
            if need.milli > self.milli:
                return False
        elif not self._fits_pinned(need):
            return False
        return not need.count or cards.pick(self.devices, need, need.cell) is not None

    def _fits_pinned(self, need: Need) -> bool:
        if not self._apart and need.milli > self.milli:
            return False
        if need.cell is None:
            return need.pinned <= len(self.cpus)
        cell = self.node.inventory.cell(need.cell)
        if cell is None or need.memory > self.cell_memory[need.cell]:
            return False
        return need.pinned <= len(self.cpus.intersection(cell.cpus))

    def choose(self, need: Need, task: int, generation: int) -> Reserved:
        """What it would get. Only after `fits`; changes nothing."""
        cell, picked = self._near(need) if need.count else (need.cell, None)
        cpus: tuple[int, ...] = ()
        if need.pinned:
            cell, cpus = self._choose_cpus(need, cell)
        if need.count and picked is None:
            picked = cards.pick(self.devices, need, cell)
            assert picked is not None
        return Reserved(
            task=task,
            generation=generation,
            cell=cell,
            cpu_milli=need.milli,
            cpus=cpus,
            memory=need.memory,
            devices=tuple(device.id for device in picked or ()),
        )

    def take(self, need: Need, task: int, generation: int) -> Reserved:
        """Reserve it. Only after `fits`."""
        reserved = self.choose(need, task, generation)
        self.subtract(reserved)
        return reserved

    def subtract(self, reserved: Reserved) -> None:
        """What is reserved is no longer free."""
        self.held.append(reserved)
        mine = self.cpus.intersection(reserved.cpus) if reserved.cpus else set[int]()
        self.cpus -= mine
        pinned_apart = len(mine) * MILLI if self._apart else 0
        self.milli -= max(reserved.cpu_milli, len(reserved.cpus) * MILLI) - pinned_apart
        self.memory -= reserved.memory
        if reserved.cell in self.cell_memory:
            self.cell_memory[reserved.cell] -= reserved.memory
        if reserved.devices:
            self.taken += reserved.devices
            self.devices = cards.without(self.devices, reserved.devices)

    def give_back(self, reserved: Reserved) -> None:
        """What is reserved is free again: its holder has ended. Only for somebody in `held`, who stays there."""
        mine = self._pinnable(reserved)
        self.cpus |= mine
        self.milli += max(reserved.cpu_milli, len(reserved.cpus) * MILLI) - (len(mine) * MILLI if self._apart else 0)
        self.memory += reserved.memory
        if reserved.cell in self.cell_memory:
            self.cell_memory[reserved.cell] += reserved.memory
        if reserved.devices:
            for device in reserved.devices:
                self.taken.remove(device)
            self.devices = cards.without(self.node.cards, self.taken)

    def _pinnable(self, reserved: Reserved) -> set[int]:
        there = self.node.inventory.every_cpu
        pinnable = there if self.node.pinnable is None else there & self.node.pinnable
        return set(pinnable.intersection(reserved.cpus))

    def copy(self) -> Self:
        """As it is now, but for `held`; neither knows of later changes of the other."""
        new = self.__class__.__new__(self.__class__)
        for name in ("node", "order", "turn", "_apart", "milli", "memory"):
            setattr(new, name, getattr(self, name))
        new.cpus = set(self.cpus)
        new.cell_memory = dict(self.cell_memory)
        new.devices = list(self.devices)
        new.taken = list(self.taken)
        new.held = []
        return new

    def meet(self, other: "Room") -> None:
        """Keeps free only what is free in both, which are two moments of one node."""
        self.milli, self.memory = min(self.milli, other.milli), min(self.memory, other.memory)
        self.cpus &= other.cpus
        for cell, memory in other.cell_memory.items():
            self.cell_memory[cell] = min(self.cell_memory[cell], memory)
        if self.devices:
            there = {device.id for device in other.devices}
            self.devices = [device for device in self.devices if device.id in there]

    def claim(self, need: Need) -> None:
        """Takes away what the need could use, as far as it is there: what stays is of no use to it."""
        self.milli = max(0, self.milli - need.milli) if not (need.pinned and self._apart) else self.milli
        self.memory = max(0, self.memory - need.memory)
        if need.pinned:
            cell = None if need.cell is None else self.node.inventory.cell(need.cell)
            useful = self.cpus if cell is None else self.cpus.intersection(cell.cpus)
            self.cpus -= set(sorted(useful)[: need.pinned])
        if need.cell in self.cell_memory:
            self.cell_memory[need.cell] = max(0, self.cell_memory[need.cell] - need.memory)
        if need.count:
            useful_cards = list(cards.matching(self.devices, need, need.cell))[: need.count]
            self.devices = cards.without(self.devices, [device.id for device in useful_cards])

    def free_for(self, need: Need) -> Free:
        """What it could give towards the need; below zero shows as nothing."""
        milli, memory = self.milli, self.memory
        if need.pinned:
            cell = None if need.cell is None else self.node.inventory.cell(need.cell)
            cpus = self.cpus if need.cell is None else self.cpus.intersection(cell.cpus if cell else ())
            milli = len(cpus) * MILLI if self._apart else min(milli, len(cpus) * MILLI)
            if need.cell is not None:
                memory = min(memory, self.cell_memory.get(need.cell, 0))
        devices = tuple(cards.matching(self.devices, need, need.cell)) if need.count else ()
        cordoned = len(list(cards.matching(self.node.cordoned_cards, need, need.cell))) if need.count else 0
        return Free(milli=max(milli, 0), memory=max(memory, 0), devices=devices, cordoned=cordoned)

    def _near(self, need: Need) -> tuple[int | None, tuple[Device, ...] | None]:
        """A cell that has cards, cpus and memory for the need, and the cards; else all cards of one cell, if one has
        them. A target's cell stays.
        """
        cells = self.node.inventory.cells
        if need.cell is not None or len(cells) == 1:
            return need.cell, None
        together = cards.near(self.devices, need)
        if not together:
            return None, None
        numbers = {cell.id: cell for cell in cells}

        def worth(number: int) -> tuple[bool, int, int]:
            picked = together[number]
            whole = number in numbers and self._cell_fits(numbers[number], need)
            return not whole, sum(device.memory for device in picked), number

        best = min(together, key=worth)
        return (None if worth(best)[0] else best), together[best]

    def _cell_fits(self, cell: Cell, need: Need) -> bool:
        """Whether the cell alone has memory and cpus for the need. Work without cpus of its own shares the cell's."""
        if need.memory > self.cell_memory[cell.id]:
            return False
        if need.pinned:
            return need.pinned <= len(self.cpus.intersection(cell.cpus))
        return need.milli <= len(cell.cpus) * MILLI

    def _choose_cpus(self, need: Need, wanted: int | None) -> tuple[int | None, tuple[int, ...]]:
        """One cell if one can give both cpus and memory, the one near the cards or the fullest; else the whole
        machine.
        """
        cells = self.node.inventory.cells
        if wanted is None and len(cells) == 1:
            return None, _pick_cpus(cells, self.cpus, need.pinned)
        good = [
            (len(self.cpus.intersection(cell.cpus)), cell.id, cell)
            for cell in cells
            if wanted in {None, cell.id} and self._cell_fits(cell, need)
        ]
        if not good:
            return None, _pick_cpus(cells, self.cpus, need.pinned)
        cell = min(good)[2]
        return cell.id, _pick_cpus((cell,), self.cpus, need.pinned)


def _pick_cpus(cells: Sequence[Cell], free: set[int], count: int) -> tuple[int, ...]:
    """That many free cpus: whole physical cores first, then single threads of cores that are broken already."""
    threads: dict[tuple[int, int], list[int]] = {}
    whole: dict[tuple[int, int], int] = {}
    for cell in cells:
        for cpu, core in zip(cell.cpus, cell.siblings or cell.cpus, strict=True):
            whole[cell.id, core] = whole.get((cell.id, core), 0) + 1
            if cpu in free:
                threads.setdefault((cell.id, core), []).append(cpu)
    chosen: list[int] = []
    rest: list[tuple[bool, list[int]]] = []
    for place, cpus in threads.items():
        is_whole = len(cpus) == whole[place]
        if is_whole and len(chosen) + len(cpus) <= count:
            chosen += cpus
        else:
            rest.append((is_whole, cpus))
    for _, cpus in sorted(rest):
        chosen += cpus[: count - len(chosen)]
    assert len(chosen) == count
    return tuple(sorted(chosen))
