"""Memory in use and in all."""

import psutil

from kohakuriver.runner.probes.reading import Missing


def memory() -> tuple[int, int]:
    """Bytes that cannot be given out (total less available, proc(5) MemAvailable), and all bytes."""
    try:
        found = psutil.virtual_memory()
    except (OSError, RuntimeError) as error:
        raise Missing(f"/proc/meminfo cannot be read: {error}") from None
    return int(found.total - found.available), int(found.total)
