"""Looks at a disk before something large is written to it. Blocks: call it in a thread."""

import shutil
from pathlib import Path

from kohakuriver.errors import StorageFull


def need_room(folder: Path, size: int, what: str) -> None:
    """Raises StorageFull unless so many bytes are free where the folder lies. Raises OSError."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StorageFull(f"{what} takes {size} bytes, and the disk of {folder} has {free} free")
