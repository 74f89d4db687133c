"""Whether what a node says of its machine can be planned with. Runners are not trusted: a cell that contradicts itself
would break every plan, not its own node's alone.
"""

from collections.abc import Sequence

from kohakuriver.wire.link import WireCell, WireDevice

MOST_CELLS = 256
MOST_DEVICES = 256
MOST_CPUS = 65_536
LONGEST_DEVICE = 96


def fault(cells: Sequence[WireCell]) -> str | None:
    """What is wrong with the cells, in words; None when nothing is."""
    devices = [device for cell in cells for device in cell.devices]
    cpus = [cpu for cell in cells for cpu in cell.cpus]
    if len(cells) > MOST_CELLS or len(devices) > MOST_DEVICES or len(cpus) > MOST_CPUS:
        return f"at most {MOST_CELLS} NUMA cells, {MOST_CPUS} cpus and {MOST_DEVICES} devices"
    if len({cell.id for cell in cells}) < len(cells):
        return "two NUMA cells have one number"
    if len(set(cpus)) < len(cpus):
        return "a cpu is in two places"
    if any(cell.siblings and len(cell.siblings) != len(cell.cpus) for cell in cells):
        return "siblings are told for some cpus of a cell and not for others"
    if sum(cell.memory for cell in cells) >= 1 << 63:
        return "more memory than can be counted"
    if not all(_named(device) for device in devices) or len({device.id for device in devices}) < len(devices):
        return f"every device needs an id of its own, of 1 to {LONGEST_DEVICE} printable characters"
    return None


def _named(device: WireDevice) -> bool:
    return 0 < len(device.id) <= LONGEST_DEVICE and device.id.isprintable()
