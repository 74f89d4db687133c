"""Who writes on the share now, and what was left by those who died. Everything here blocks.

A claim is an empty file whose name says whose it is; its owner touches it. One of this very node whose process is gone
is dead at once, one of another node after `stale` seconds by the share's own clock. Where two claim a stem, it belongs
to the one who makes the unfinished archive.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kohakuriver_nfs import names
from kohakuriver_nfs.patience import Pulse

TOUCH_EVERY = 30.0
#: of this process: what is under way in it
_LIVES: set[str] = set()


class Claim:
    """A stem that is ours for now."""

    def __init__(self, folder: Path, stem: str, node: str) -> None:
        self.stem = stem
        self.life = os.urandom(8).hex()
        self._touched = time.monotonic()
        self.path = folder / f"{names.PART}{stem}~{_name(node)}~{self.life}.claim"

    def touch(self) -> None:
        """Now and then, while a long file is written. Raises OSError when somebody took us for dead."""
        if time.monotonic() - self._touched >= TOUCH_EVERY:
            os.utime(self.path)
            self._touched = time.monotonic()


@contextmanager
def claimed(folder: Path, stem: str, node: str) -> Iterator[Claim]:
    """Holds the stem; whatever it is held for is done, or undone, on leaving."""
    claim = Claim(folder, stem, node)
    _LIVES.add(claim.life)
    try:
        claim.path.touch(exist_ok=False)
        yield claim
        claim.path.unlink(missing_ok=True)
    finally:
        _LIVES.discard(claim.life)


def held(folder: Path) -> frozenset[str]:
    """The stems that somebody writes or has left unfinished."""
    return frozenset(found["stem"] for path in folder.iterdir() if (found := names.CLAIM.fullmatch(path.name)))


def clean(folder: Path, node: str, pulse: Pulse, own: Claim | None = None, stale: float = 0.0) -> None:
    """Removes what dead publishers left: an archive without a manifest, unfinished files, and their claim last.

    Without a claim of one's own to compare times with, only what this node left.
    """
    now = own.path.stat().st_mtime if own is not None else 0.0
    found = [(path, told) for path in sorted(folder.iterdir()) if (told := names.CLAIM.fullmatch(path.name))]
    for path, told in found:
        if told["life"] in _LIVES:
            continue
        with suppress(FileNotFoundError):
            touched = path.stat().st_mtime  # FileNotFoundError: its owner was done before we asked whether it lives
            if told["node"] != _name(node) and (own is None or now - touched < stale):
                continue
            if [other["stem"] for _, other in found].count(told["stem"]) == 1:
                undo(folder, told["stem"])
            path.unlink()
        pulse.beat()


def undo(folder: Path, stem: str) -> None:
    """Removes what was begun under this stem and is no whole version. May be called again."""
    for name in (f"{names.PART}{stem}.tar.zst", f"{names.PART}{stem}.json"):
        (folder / name).unlink(missing_ok=True)
    if not (folder / f"{stem}.json").exists():
        (folder / f"{stem}.tar.zst").unlink(missing_ok=True)


def _name(node: str) -> str:
    return node.replace("/", "_").replace("~", "_")
