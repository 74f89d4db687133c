"""What an attempt needs, ready to be compared with what is free."""

from dataclasses import dataclass

from kohakuriver.domain.resources import Device
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

    def share(self, free: "Free") -> tuple[float, float]:
        """How near that comes: by what it lacks most, then by everything."""
        wanted = ((self.milli, free.milli), (self.memory, free.memory), (self.count, len(free.devices)))
        shares = [min(1.0, has / asked) for asked, has in wanted if asked]
        return min(shares), sum(shares)

    def serves(self, device: Device) -> bool:
        """Whether the card is one of those asked for, free or not."""
        return (
            (not self.indices or device.index in self.indices)
            and (self.model is None or self.model in device.model.lower())
            and self.least <= device.memory
        )


@dataclass(frozen=True, kw_only=True)
class Free:
    """What a node could give for a certain need, for sentences."""

    milli: int
    memory: int
    devices: tuple[Device, ...]
    #: cards that would serve and are cordoned
    cordoned: int = 0


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
