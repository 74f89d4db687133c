"""A stand-in for NVIDIA's library: real cards cannot be told to fail. Compiled when it is first asked for; needs gcc.

Put the folder on LD_LIBRARY_PATH before the process starts that is to find it.
"""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_double.c")
LIBRARY = "libnvidia-ml.so.1"
COMPILE_SECONDS = 60


def why_not() -> str | None:
    """Why it cannot be made here; None when it can."""
    if shutil.which("gcc") is None or not Path("/usr/include/stdio.h").exists():
        return "needs a C compiler (Debian: gcc, libc6-dev)"
    return None


def build(folder: Path) -> Path:
    """The folder with the library in it. Raises CalledProcessError with the compiler's words."""
    target = folder / LIBRARY
    if not target.exists():
        words = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", f"-Wl,-soname,{LIBRARY}", "-o", str(target), str(SOURCE)]
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    return folder


class Cards:
    """The cards that the stand-in shows: `set` changes one of them, and every process sees it with its next call."""

    def __init__(self, path: Path, count: int = 0) -> None:
        self.path = path
        self._general: dict[str, object] = {"cards": count}
        self._each: dict[int, dict[str, object]] = {}
        self._processes: dict[int, list[tuple[int, int]]] = {}
        self._write()

    def environment(self, folder: Path) -> Mapping[str, str]:
        """What a process needs in its environment to find the library that `build` made, and these cards."""
        return {"LD_LIBRARY_PATH": str(folder), "NVML_DOUBLE": str(self.path)}

    def all(self, **values: object) -> None:
        """`cards`, `driver` (an error of every call) or `hang`; None takes a value back."""
        self._general.update(values)
        self._write()

    def set(self, card: int, **values: object) -> None:
        """The keys that nvml_double.c lists; None takes a value back."""
        self._each.setdefault(card, {}).update(values)
        self._write()

    def run(self, card: int, processes: Iterable[tuple[int, int]]) -> None:
        """The processes on the card: (pid, MiB)."""
        self._processes[card] = list(processes)
        self._write()

    def uuid(self, card: int) -> str:
        return f"GPU-d0b1e000-0000-4000-8000-{card:012x}"

    def address(self, card: int) -> str:
        return f"0000:{0x1A + card:02x}:00.0"

    def _write(self) -> None:
        lines = [f"{key} {value}" for key, value in self._general.items() if value is not None]
        for card, values in self._each.items():
            lines += [f"{card} {key} {value}" for key, value in values.items() if value is not None]
        for card, processes in self._processes.items():
            lines += [f"{card} pid {pid} {mib}" for pid, mib in processes]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.path)
