"""What machines have and tasks ask for: cores, memory, devices, NUMA cells. Arithmetic only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

WHOLE = 1000
MILLI = 1000


@dataclass(frozen=True, kw_only=True)
class Device:
    """A card. Its id is its PCI address, or `<pci>/<mig uuid>` (architecture.md D11)."""

    id: str
    kind: str = "gpu"
    model: str = ""
    memory: int = 0
    uuid: str | None = None
    index: int | None = None
    numa: int | None = None
    group: str | None = None
    modes: frozenset[str] = frozenset({"host"})
    #: version of its driver
    driver: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One NUMA cell; an ordinary machine has one. Memory in bytes."""

    id: int = 0
    cpus: tuple[int, ...] = ()
    #: for each cpu of `cpus` the lowest id among its hyper-thread siblings
    siblings: tuple[int, ...] = ()
    memory: int = 0
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeviceRequest:
    """Cards by count, with an optional model word (part of the model name, any case) and least memory in bytes."""

    count: int = 0
    model: str | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one attempt needs. `cores` 0 is no limit, counted as one core; memory None is no limit, counted as none."""

    cores: int = 1
    pin: bool = False
    memory: int | None = None
    devices: DeviceRequest = DeviceRequest()

    @property
    def cpu_milli(self) -> int:
        """Thousandths of a core that the accounting counts."""
        return (self.cores or 1) * MILLI


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Sums of what is counted in bulk."""

    cpu_milli: int = 0
    memory: int = 0

    def plus(self, other: "Amount") -> "Amount":
        return Amount(cpu_milli=self.cpu_milli + other.cpu_milli, memory=self.memory + other.memory)

    def minus(self, other: "Amount") -> "Amount":
        """The rest; may be below zero on a node that holds recovered bodies beyond its capacity."""
        return Amount(cpu_milli=self.cpu_milli - other.cpu_milli, memory=self.memory - other.memory)

    def fits(self, other: "Amount") -> bool:
        """Whether `other` fits into this."""
        return other.cpu_milli <= self.cpu_milli and other.memory <= self.memory


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """What one attempt holds on its node, from `assigned` until its end is certain."""

    task: int
    generation: int
    cell: int | None = None
    cpu_milli: int = 0
    #: whole cores of its own; empty without pinning
    cpus: tuple[int, ...] = ()
    memory: int = 0
    devices: tuple[str, ...] = ()
    #: thousandths of each device
    share_milli: int = WHOLE

    @property
    def amount(self) -> Amount:
        return Amount(cpu_milli=self.cpu_milli, memory=self.memory)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a node has to give."""

    cells: tuple[Cell, ...] = ()

    @cached_property
    def cpus(self) -> tuple[int, ...]:
        return tuple(cpu for cell in self.cells for cpu in cell.cpus)

    @cached_property
    def every_cpu(self) -> frozenset[int]:
        return frozenset(self.cpus)

    @cached_property
    def memory(self) -> int:
        return sum(cell.memory for cell in self.cells)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for cell in self.cells for device in cell.devices)

    @cached_property
    def amount(self) -> Amount:
        return Amount(cpu_milli=len(self.cpus) * MILLI, memory=self.memory)

    def cell(self, number: int) -> Cell | None:
        return next((cell for cell in self.cells if cell.id == number), None)


def total(parts: Iterable[Amount]) -> Amount:
    """The sum of all parts."""
    result = Amount()
    for part in parts:
        result = result.plus(part)
    return result


def without_devices(request: Request) -> Request:
    """The same request for a machine's cores and memory alone."""
    return replace(request, devices=DeviceRequest())
