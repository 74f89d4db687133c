"""The temperature of the processors."""

from pathlib import Path

from kohakuriver.runner.probes.reading import Missing

#: names of hwmon chips that measure processors: coretemp (Intel), k10temp and zenpower (AMD), cpu_thermal (ARM boards)
CHIPS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})


def temperature(root: Path = Path("/sys/class/hwmon")) -> float:
    """The hottest processor sensor in degrees Celsius (kernel: Documentation/hwmon/sysfs-interface, temp*_input)."""
    readings = [value for chip in _chips(root) for value in _inputs(chip)]
    if not readings:
        raise Missing("this machine shows no processor sensor under /sys/class/hwmon")
    return max(readings) / 1000


def _chips(root: Path) -> list[Path]:
    try:
        found = sorted(root.iterdir())
    except OSError:
        return []
    return [chip for chip in found if _text(chip / "name") in CHIPS]


def _inputs(chip: Path) -> list[int]:
    texts = [_text(path) for path in chip.glob("temp*_input")]
    return [int(text) for text in texts if text.lstrip("-").isdigit()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
