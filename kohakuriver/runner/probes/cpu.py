"""How busy the processors are, and the load."""

import os

import psutil

from kohakuriver.runner.probes.reading import Missing


def busy() -> float:
    """The fraction of all processors in use since the last call, 0 to 1; the first call has nothing to compare."""
    try:
        return float(min(1.0, max(0.0, psutil.cpu_percent(interval=None) / 100)))
    except (OSError, RuntimeError) as error:
        raise Missing(f"/proc/stat cannot be read: {error}") from None


def load() -> float:
    """Runnable processes over the last minute, in the mean (proc(5), loadavg)."""
    try:
        return os.getloadavg()[0]
    except OSError as error:
        raise Missing(f"no load average: {error}") from None
