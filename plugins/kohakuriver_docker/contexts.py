"""The tar of a build's context: what it is packed with, and whether it is one. Blocks."""

import contextlib
import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import zstandard

from kohakuriver.errors import Invalid

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PIECE = 256 * 1024


def check(path: Path) -> None:
    """Raises Invalid unless it begins like a tar, plain or packed with gzip or zstd. Only its first header is read:
    that may promise more than there is memory.
    """
    try:
        with _plain(path) as content:
            tarfile.TarInfo.frombuf(content.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (tarfile.TarError, OSError, EOFError, zstandard.ZstdError) as error:
        raise Invalid(f"the context of the build is no tar, plain or packed with gzip or zstd: {error}") from None


def pieces(path: Path) -> Iterator[bytes]:
    """The plain tar. Raises Invalid when it is cut off or damaged."""
    try:
        with _plain(path) as content:
            while piece := content.read(PIECE):
                yield piece
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise Invalid(f"the context of the build is damaged: {error}") from None


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        begin = file.read(4)
        file.seek(0)
        if begin.startswith(GZIP):
            with gzip.open(file) as content:
                yield content  # type: ignore[misc]
        elif begin == ZSTD:
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as content:
                yield content
        else:
            yield file
