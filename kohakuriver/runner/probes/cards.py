"""What is remembered of cards: one that is lost cannot say who it is, one that vanished says nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from kohakuriver.runner.probes.nvml import Seen
from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.link import (
    WireDevice,
)

VANISHED = "it vanished: the driver does not list it any more"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Every card of the node, those that are gone too, with what speaks against each."""

    devices: tuple[WireDevice, ...] = ()
    uses: tuple[DeviceUse, ...] = ()
    #: sentences about cards that cannot be named
    problems: tuple[str, ...] = ()


class Memory:
    """The cards as they were last seen, by PCI address, for as long as this runner lives."""

    def __init__(self) -> None:
        self._known: dict[str, list[WireDevice]] = {}

    def take(self, seen: Sequence[Seen]) -> Reading:
        """The new list made whole. A card keeps its place of the last time; MIG parts go and come without a fault."""
        now: dict[str, list[WireDevice]] = {}
        for one in seen:
            if one.devices and (one.whole or address_of(one.devices[0]) not in self._known):
                now[address_of(one.devices[0])] = _with_fault(one.devices, one.fault)
        problems = []
        for one in seen:
            if one.whole or (one.devices and address_of(one.devices[0]) in now):
                continue
            address = self._who(one, now)
            if address is None:
                problems.append(f"GPU {one.index}: {one.fault}")
            else:
                now[address] = _with_fault(self._known[address], one.fault)
        for address, devices in self._known.items():
            if address not in now:
                now[address] = _with_fault(devices, VANISHED)
        self._known = now
        devices = sorted((d for card in now.values() for d in card), key=_place)
        uses = [use for one in seen for use in one.uses]
        return Reading(devices=tuple(devices), uses=tuple(uses), problems=tuple(problems))

    def _who(self, one: Seen, now: Iterable[str]) -> str | None:
        """The address of a card that did not say it: the one that had this index and is not elsewhere now."""
        if one.devices:
            return address_of(one.devices[0])
        taken = set(now)
        for address, devices in self._known.items():
            if address not in taken and devices[0].index == one.index:
                return address
        return None


def address_of(device: WireDevice) -> str:
    """The PCI address of the card that the device is, or is a part of."""
    return device.id.partition("/")[0]


def _with_fault(devices: Iterable[WireDevice], fault: str | None) -> list[WireDevice]:
    return [msgspec.structs.replace(device, fault=fault) for device in devices]


def _place(device: WireDevice) -> tuple[bool, int, str]:
    """In NVML's order; the order of a card's parts is kept, for sorting is stable."""
    return (device.index is None, device.index or 0, address_of(device))
