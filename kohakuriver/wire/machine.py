"""Cells and cards between the domain and the wire, both ways."""

from kohakuriver.domain.resources import Cell, Device
from kohakuriver.wire.link import WireCell, WireDevice


def cell_of(wire: WireCell) -> Cell:
    return Cell(
        id=wire.id,
        cpus=tuple(wire.cpus),
        siblings=tuple(wire.siblings),
        memory=wire.memory,
        devices=tuple(device_of(device) for device in wire.devices),
    )


def device_of(wire: WireDevice) -> Device:
    return Device(
        id=wire.id,
        kind=wire.kind,
        model=wire.model,
        memory=wire.memory,
        uuid=wire.uuid,
        index=wire.index,
        numa=wire.numa,
        group=wire.group,
        modes=frozenset(wire.modes),
        driver=wire.driver,
    )


def wire_device(device: Device) -> WireDevice:
    return WireDevice(
        id=device.id,
        kind=device.kind,
        model=device.model,
        memory=device.memory,
        uuid=device.uuid,
        index=device.index,
        numa=device.numa,
        group=device.group,
        modes=sorted(device.modes),
        driver=device.driver,
    )
