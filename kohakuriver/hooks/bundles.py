"""A bundle: a folder that carries an image, or those layers of it that somebody lacks, between backend and syncer.

    image.json              {"version": 1, "digest": "sha256:…", "layers": [{"digest": "sha256:…", "size": 1234}, …]}
    config.json             the configuration, byte for byte; its SHA-256 is the image's digest
    <64 hex digits>.zst     the uncompressed tar of the layer with this SHA-256, as zstd; of layers that are carried

A file has its final name only when it is whole and verified. Everything here blocks: call it in a thread.
"""

import contextlib
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import zstandard

from kohakuriver.errors import PluginError
from kohakuriver.hooks.packages import DIGEST, Layer, Package

VERSION = 1
LEVEL = 3
#: bytes of a piece that is read, hashed and written at once
PIECE = 1 << 20
INDEX, CONFIG = "image.json", "config.json"
#: a configuration beyond this is no image's
MOST_CONFIG = 4 << 20
MOST_LAYERS = 128


def blob(folder: Path, digest: str) -> Path:
    """Where the content of this digest lies in a folder. Raises PluginError for what is no digest."""
    if DIGEST.fullmatch(digest) is None:
        raise PluginError(f"{digest[:80]!r} is no SHA-256 digest")
    return folder / f"{digest.removeprefix('sha256:')}.zst"


def write_index(folder: Path, package: Package) -> None:
    """Writes what is not a layer. May be called again."""
    layers = [{"digest": layer.digest, "size": layer.size} for layer in package.layers]
    _write(folder / CONFIG, package.config)
    _write(folder / INDEX, describe(package.digest, layers))


def describe(digest: str, layers: list[dict[str, object]]) -> bytes:
    """The index as bytes."""
    return json.dumps({"version": VERSION, "digest": digest, "layers": layers}).encode()


def read_index(folder: Path) -> Package:
    """The package that the folder carries, or a part of it. Raises PluginError when it is not a whole, true index."""
    try:
        index, config = (folder / INDEX).read_bytes(), _read_few(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise PluginError(f"{folder.name} is no bundle: {error}") from None
    return parse(index, config, folder.name)


def parse(index: bytes, config: bytes, name: str) -> Package:
    """The package of an index and a configuration, wherever they came from; `name` is for the error. As read_index."""
    try:
        found = json.loads(index)
        layers = tuple(Layer(digest=str(one["digest"]), size=int(one["size"])) for one in found["layers"])
        package = Package(digest=str(found["digest"]), config=config, layers=layers)
    except (ValueError, KeyError, TypeError) as error:
        raise PluginError(f"{name} is no bundle: {error}") from None
    check(package)
    return package


def check(package: Package) -> None:
    """Raises PluginError unless digest, configuration and layers are of each other."""
    found = "sha256:" + hashlib.sha256(package.config).hexdigest()
    if found != package.digest:
        raise PluginError(f"image {package.digest[:80]}: its configuration has the SHA-256 {found}")
    try:
        named = json.loads(package.config)["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError):
        raise PluginError(f"image {package.digest}: its configuration names no layers") from None
    if [layer.digest for layer in package.layers] != named or not 0 < len(named) <= MOST_LAYERS:
        raise PluginError(f"image {package.digest}: its layers are not those that its configuration names")
    if any(DIGEST.fullmatch(layer.digest) is None or layer.size < 0 for layer in package.layers):
        raise PluginError(f"image {package.digest}: a layer has no proper digest or size")


def carried(folder: Path, package: Package) -> frozenset[str]:
    """The layers of the package that lie in the folder."""
    return frozenset(layer.digest for layer in package.layers if blob(folder, layer.digest).exists())


def pack(folder: Path, digest: str, pieces: Iterable[bytes], *, threads: int = 0) -> int:
    """Compresses a content into the folder; returns the bytes of the file. `threads`: 0 compresses in this one.

    Raises PluginError, leaving nothing, when the content has another SHA-256. What is there already is kept.
    """
    path = blob(folder, digest)
    if path.exists():
        return path.stat().st_size
    part = _part(path)
    hashed = hashlib.sha256()
    try:
        with part.open("wb") as file:
            with zstandard.ZstdCompressor(level=LEVEL, threads=threads).stream_writer(file, closefd=False) as packed:
                for piece in pieces:
                    hashed.update(piece)
                    packed.write(piece)
            _settle(file)
        if "sha256:" + hashed.hexdigest() != digest:
            raise PluginError(f"{digest} has become {hashed.hexdigest()}: what was read is not the layer")
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


def unpack(path: Path, most: int | None = None) -> Iterator[bytes]:
    """The content of a zstd file in pieces, at most `most` bytes. Raises PluginError when it is cut off, not zstd or
    more; nothing is known of its digest before the last piece has come.
    """
    total = 0
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
            while piece := content.read(PIECE):
                total += len(piece)
                if most is not None and total > most:
                    raise PluginError(f"{path.name} holds more than the {most} bytes that it should")
                yield piece
    except zstandard.ZstdError as error:
        raise PluginError(f"{path.name} is damaged: {error}") from None


def verify(path: Path, digest: str, size: int | None = None) -> int:
    """Reads a zstd file to its end; returns the bytes of its content. Raises PluginError unless it has this digest and,
    where given, this size.
    """
    hashed = hashlib.sha256()
    total = 0
    for piece in unpack(path, size):
        hashed.update(piece)
        total += len(piece)
    if "sha256:" + hashed.hexdigest() != digest or (size is not None and total != size):
        raise PluginError(f"{path.name} is not what it says: {total} bytes with the SHA-256 {hashed.hexdigest()}")
    return total


def _read_few(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MOST_CONFIG + 1)
    if len(data) > MOST_CONFIG:
        raise ValueError(f"{path.name} has more than {MOST_CONFIG} bytes")
    return data


def _part(path: Path) -> Path:
    """A name of one thread's own: who was cancelled may still write while the next begins."""
    return path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")


def _write(path: Path, data: bytes) -> None:
    part = _part(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            _settle(file)
        part.rename(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _settle(file: IO[bytes]) -> None:
    file.flush()
    with contextlib.suppress(io.UnsupportedOperation):
        os.fsync(file.fileno())
