"""Archives as `docker save` writes them: made of a bundle, copied and verified. Everything here blocks.

manifest.json                [{"Config": "<hex>.json", "RepoTags": null, "Layers": ["<hex>/layer.tar", …]}]
<hex of the image>.json      the configuration
<hex of the layer>/layer.tar
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import zstandard

from kohakuriver.errors import PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Package
from kohakuriver_nfs.patience import Pulse

LEVEL = 3
THREADS = min(2, os.cpu_count() or 1)
PIECE = 1 << 20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MOST_MANIFEST = 1 << 20
#: an image has a few for each of its layers
MOST_MEMBERS = 4096
#: bytes of small members that are kept until the manifest says which one counts
MOST_KEPT = 64 << 20


class Hashed:
    """A file that is written once, from the beginning; knows the SHA-256 and the size of what went by."""

    def __init__(self, file: IO[bytes], pulse: Pulse) -> None:
        self._file = file
        self._pulse = pulse
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        self._pulse.beat()
        return len(data)

    def settle(self) -> None:
        """On return it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Pieces(io.RawIOBase):
    """A layer's tar, read out of its bundle."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, most: int = -1) -> bytes:
        while len(self._left) < most or most < 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left += piece
        taken = self._left if most < 0 else self._left[:most]
        self._left = self._left[len(taken) :]
        return taken


def write(bundle: Path, package: Package, file: Hashed) -> None:
    """Writes the archive of a bundle that carries every layer. Raises PluginError when the bundle is damaged."""
    image = package.digest.removeprefix("sha256:")
    paths = [f"{layer.digest.removeprefix('sha256:')}/layer.tar" for layer in package.layers]
    manifest = [{"Config": f"{image}.json", "RepoTags": None, "Layers": paths}]
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=THREADS)
    with (
        compressor.stream_writer(file, closefd=False) as packed,  # type: ignore[arg-type]  # it only writes
        tarfile.open(mode="w|", fileobj=packed, bufsize=PIECE) as tar,
    ):
        _add(tar, "manifest.json", json.dumps(manifest).encode())
        _add(tar, f"{image}.json", package.config)
        for layer in {one.digest: one for one in package.layers}.values():
            pieces = bundles.unpack(bundles.blob(bundle, layer.digest), layer.size)
            entry = tarfile.TarInfo(f"{layer.digest.removeprefix('sha256:')}/layer.tar")
            entry.size, entry.mode = layer.size, 0o644
            try:
                tar.addfile(entry, _Pieces(pieces))
            except OSError as error:
                if error.errno is None:  # tarfile's own: fewer bytes than there should be
                    raise PluginError(f"layer {layer.digest} is shorter than {layer.size} bytes") from None
                raise


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def copy(source: Path, target: Path, pulse: Pulse, most: int) -> str:
    """Copies at most `most` bytes, going on where an earlier call was cut off; the SHA-256 of the whole target.

    What is told apart by the SHA-256 is the target: the source may change while it is read.
    """
    hashed = hashlib.sha256()
    with target.open("a+b") as file, source.open("rb") as origin:
        file.seek(0)
        while piece := file.read(PIECE):
            hashed.update(piece)
            pulse.beat()
        origin.seek(file.tell())
        while piece := origin.read(max(0, min(PIECE, most + 1 - file.tell()))):
            pulse.beat()  # whoever was given up while the share hung must not write into the next one's copy
            file.write(piece)
            hashed.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return hashed.hexdigest()


def sha256(path: Path, pulse: Pulse) -> str:
    """Reads a file to its end."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hashed.update(piece)
            pulse.beat()
    return hashed.hexdigest()


def image_of(path: Path, pulse: Pulse) -> str:
    """The digest of the one image in an archive, of whatever compression, after it was read to its end.

    Raises PluginError when it is cut off or damaged, holds no image or several, or another configuration than it says.
    """
    small: dict[str, bytes] = {}
    kept = 0
    try:
        with _opened(path) as tar:
            for count, member in enumerate(tar):
                pulse.beat()
                if count > MOST_MEMBERS:
                    raise PluginError(f"it has more than {MOST_MEMBERS} files: it is no image")
                wanted = member.name == "manifest.json" or member.name.endswith(".json") or "/" not in member.name
                if member.isfile() and wanted and member.size <= bundles.MOST_CONFIG:
                    kept += member.size
                    if kept > MOST_KEPT:
                        raise PluginError(f"its small files have more than {MOST_KEPT} bytes: it is no image")
                    found = tar.extractfile(member)
                    small[member.name] = found.read() if found is not None else b""
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PluginError(f"it is cut off or damaged ({error})") from None
    try:
        (image,) = json.loads(small["manifest.json"][:MOST_MANIFEST])
        config = small[image["Config"]]
    except (KeyError, TypeError, ValueError):
        raise PluginError("it is no archive of one image as `docker save` writes it") from None
    return "sha256:" + hashlib.sha256(config).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        magic = file.read(len(ZSTD_MAGIC))
        file.seek(0)
        if magic != ZSTD_MAGIC:
            with tarfile.open(fileobj=file, mode="r|*") as tar:
                yield tar
            return
        with (
            zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as content,
            tarfile.open(fileobj=content, mode="r|", bufsize=PIECE) as tar,
        ):
            yield tar
