"""What is free on one node while a plan is made: the one mutable thing of the domain, never seen outside a plan.

Free amounts only shrink, so what does not fit once does not fit again in the same plan.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kohakuriver.domain.nodes import Node
from kohakuriver.domain.resources import MILLI, Cell, Device, Reserved
from kohakuriver.domain.tasks import TaskSpec


@dataclass(frozen=True, kw_only=True)
class Need:
    """What an attempt needs, ready to be compared. Memory in bytes."""

    milli: int
    memory: int
    #: whole cpus of its own; 0: it shares
    pinned: int = 0
    cell: int | None = None
    #: cards by index, or else by count
    indices: tuple[int, ...] = ()
    count: int = 0
    model: str | None = None
    least: int = 0

    @property
    def plain(self) -> bool:
        return not (self.pinned or self.count)


@dataclass(frozen=True, kw_only=True)
class Free:
    """What a node could give for a certain need, for sentences."""

    milli: int
    memory: int
    devices: tuple[Device, ...]


def need_of(spec: TaskSpec) -> Need:
    """The need. A NUMA target pins as `--pin` does (architecture.md §6a); cards by index count for themselves."""
    request, target = spec.request, spec.target
    cell = target.numa if target else None
    indices = target.devices if target else ()
    return Need(
        milli=request.cpu_milli,
        memory=request.memory or 0,
        pinned=(request.cores or 1) if request.pin or cell is not None else 0,
        cell=cell,
        indices=indices,
        count=len(indices) or request.devices.count,
        model=request.devices.model.lower() if request.devices.model else None,
        least=request.devices.memory or 0,
    )


class Room:
    """One node's free cores, memory and cards. `order` is its place in the snapshot, for ties."""

    __slots__ = ("_apart", "_cell_memory", "_cpus", "_parted", "devices", "memory", "milli", "node", "order", "placed")

    def __init__(self, node: Node, held: Iterable[Reserved], order: int) -> None:
        cells = node.inventory.cells
        self.node = node
        self.order = order
        #: attempts placed here by this plan, for strategies that take turns
        self.placed = 0
        self._apart = node.pinnable
        everything = set(node.inventory.cpus)
        self._cpus = everything if node.pinnable is None else everything & node.pinnable
        #: thousandths of cores that work without cpus of its own can still have
        self.milli = (len(everything) - (len(self._cpus) if self._apart is not None else 0)) * MILLI
        self.memory = node.inventory.memory
        self._cell_memory = {cell.id: cell.memory for cell in cells}
        self.devices = [d for d in node.inventory.devices if d.kind == "gpu" and "host" in d.modes]
        #: whether parts of cards are listed beside whole ones
        self._parted = any("/" in device.id for device in self.devices)
        for reserved in held:
            self._subtract(reserved)

    def fits(self, need: Need) -> bool:
        """Whether the need can be met now. Never wrong in either direction: `take` succeeds exactly then."""
        if need.memory > self.memory:
            return False
        if not need.pinned:
            if need.milli > self.milli:
                return False
        elif not self._fits_pinned(need):
            return False
        return not need.count or self._pick(need, need.cell) is not None

    def _fits_pinned(self, need: Need) -> bool:
        if self._apart is None and need.milli > self.milli:
            return False
        if need.cell is None:
            return need.pinned <= len(self._cpus)
        cell = self.node.inventory.cell(need.cell)
        if cell is None or need.memory > self._cell_memory[need.cell]:
            return False
        return need.pinned <= len(self._cpus.intersection(cell.cpus))

    def take(self, need: Need, task: int, generation: int) -> Reserved:
        """Reserve it. Only after `fits`."""
        cell, cpus = self._choose_cpus(need) if need.pinned else (need.cell, ())
        devices = self._pick(need, cell) if need.count else ()
        assert devices is not None
        reserved = Reserved(
            task=task,
            generation=generation,
            cell=cell,
            cpu_milli=need.milli,
            cpus=cpus,
            memory=need.memory,
            devices=tuple(device.id for device in devices),
        )
        self._subtract(reserved)
        self.placed += 1
        return reserved

    def _subtract(self, reserved: Reserved) -> None:
        mine = self._cpus.intersection(reserved.cpus)
        self._cpus -= mine
        pinned_apart = len(mine) * MILLI if self._apart is not None else 0
        self.milli -= max(reserved.cpu_milli, len(reserved.cpus) * MILLI) - pinned_apart
        self.memory -= reserved.memory
        if reserved.cell in self._cell_memory:
            self._cell_memory[reserved.cell] -= reserved.memory
        if reserved.devices:
            self.devices = [d for d in self.devices if not any(_same_card(d.id, taken) for taken in reserved.devices)]

    def free_for(self, need: Need) -> Free:
        """What it could give towards the need; below zero shows as nothing."""
        milli, memory = self.milli, self.memory
        if need.pinned:
            cell = None if need.cell is None else self.node.inventory.cell(need.cell)
            cpus = self._cpus if need.cell is None else self._cpus.intersection(cell.cpus if cell else ())
            milli = len(cpus) * MILLI if self._apart is not None else min(milli, len(cpus) * MILLI)
            if need.cell is not None:
                memory = min(memory, self._cell_memory.get(need.cell, 0))
        devices = tuple(self._matching(need, need.cell)) if need.count else ()
        return Free(milli=max(milli, 0), memory=max(memory, 0), devices=devices)

    def _choose_cpus(self, need: Need) -> tuple[int | None, tuple[int, ...]]:
        """One cell if one can give both cpus and memory, the fullest such; else the whole machine."""
        cells = self.node.inventory.cells
        if need.cell is None and len(cells) == 1:
            return None, _pick_cpus(cells, self._cpus, need.pinned)
        good = [
            (len(free), cell.id, cell)
            for cell in cells
            if need.cell in {None, cell.id}
            and need.memory <= self._cell_memory[cell.id]
            and len(free := self._cpus.intersection(cell.cpus)) >= need.pinned
        ]
        if not good:
            return None, _pick_cpus(cells, self._cpus, need.pinned)
        cell = min(good)[2]
        return cell.id, _pick_cpus((cell,), self._cpus, need.pinned)

    def _pick(self, need: Need, cell: int | None) -> tuple[Device, ...] | None:
        matching = self._matching(need, cell)
        picked: list[Device] = []
        for device in matching:
            picked.append(device)
            if len(picked) == need.count:
                return tuple(picked)
        return None

    def _matching(self, need: Need, cell: int | None) -> Iterator[Device]:
        """Free cards that serve, the best first: near the cell, then the smallest that will do. None twice."""
        good = [
            device
            for device in self.devices
            if (not need.indices or device.index in need.indices)
            and (need.model is None or need.model in device.model.lower())
            and need.least <= device.memory
        ]
        good.sort(key=lambda d: (cell is not None and d.numa != cell, d.memory, d.index is None, d.index or 0, d.id))
        given: list[Device] = []
        for device in good:
            twice = need.indices and any(device.index == other.index for other in given)
            if not twice and not (self._parted and any(_same_card(device.id, other.id) for other in given)):
                given.append(device)
                yield device


def _same_card(one: str, other: str) -> bool:
    """Whether both are one card, or one is a part of the other (`<pci>` and `<pci>/<mig uuid>`)."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


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
