"""Which of the free cards a task gets: those near its cell, the smallest that will do, no card twice."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from kohakuriver.domain.needs import Need
from kohakuriver.domain.resources import Device


def same_card(one: str, other: str) -> bool:
    """Whether both are one card, or one is a part of the other (`<pci>` and `<pci>/<mig uuid>`)."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def without(devices: Iterable[Device], taken: Collection[str]) -> list[Device]:
    """The cards of which nothing is taken."""
    gone = set(taken)
    # a card of which a part is taken, besides
    gone.update(one.partition("/")[0] for one in taken)
    return [
        device
        for device in devices
        if device.id not in gone and ("/" not in device.id or device.id.partition("/")[0] not in taken)
    ]


def pick(devices: Iterable[Device], need: Need, cell: int | None) -> tuple[Device, ...] | None:
    """The cards for the need, the best first; None when there are too few."""
    picked: list[Device] = []
    for device in matching(devices, need, cell):
        picked.append(device)
        if len(picked) == need.count:
            return tuple(picked)
    return None


def matching(devices: Iterable[Device], need: Need, cell: int | None) -> Iterator[Device]:
    """Those of the cards that serve: near the cell first, then the smallest that will do. None twice."""
    good = [device for device in devices if need.serves(device)]
    good.sort(key=lambda d: (cell is not None and d.numa != cell, d.memory, d.index is None, d.index or 0, d.id))
    given: list[Device] = []
    for device in good:
        twice = need.indices and any(device.index == other.index for other in given)
        if not twice and not any(same_card(device.id, other.id) for other in given):
            given.append(device)
            yield device


def near(devices: Sequence[Device], need: Need) -> dict[int, tuple[Device, ...]]:
    """The cells that have all the cards for the need among these, with the cards."""
    found: dict[int, tuple[Device, ...]] = {}
    for cell in {device.numa for device in devices if device.numa is not None}:
        picked = pick([device for device in devices if device.numa == cell], need, cell)
        if picked is not None:
            found[cell] = picked
    return found
