"""Space on the disk that holds the runner's data."""

import shutil
from pathlib import Path

from kohakuriver.runner.probes.reading import Missing


def disk(path: Path) -> tuple[int, int]:
    """Bytes in use and in all of the file system that holds the path."""
    try:
        found = shutil.disk_usage(path)
    except OSError as error:
        raise Missing(f"{path}: {error.strerror}") from None
    return found.used, found.total
