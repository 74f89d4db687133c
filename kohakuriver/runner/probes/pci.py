"""Where a card sits, as sysfs tells (kernel: Documentation/ABI/testing/sysfs-bus-pci)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the kernel knows of one PCI function; None where it does not tell."""

    numa: int | None = None
    #: number of its IOMMU group
    group: str | None = None


def normal(address: str) -> str:
    """The address as sysfs writes it, `0000:1b:00.0`; NVML writes eight digits of domain and capitals."""
    domain, _, rest = address.strip().lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}" if rest.count(":") == 1 and _is_hex(domain) else address.strip().lower()


def look(address: str, sysfs: Path) -> Place:
    """The place of the function with that normal address."""
    folder = sysfs / "bus/pci/devices" / address
    return Place(numa=_numa(folder / "numa_node"), group=_group(folder / "iommu_group"))


def _numa(path: Path) -> int | None:
    """The kernel writes -1 where the firmware names no cell."""
    try:
        number = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return number if number >= 0 else None


def _group(path: Path) -> str | None:
    try:
        return path.readlink().name or None
    except OSError:
        return None


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdef" for letter in text)
