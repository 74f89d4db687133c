"""The daemon's own directory: exact tars of layers, put together from their files and the record that it keeps of each.

As Docker's own image store keeps it, tried with 20.10. Whatever is not as expected is a PluginError, and whoever asked
takes the image from the Engine instead. Everything here blocks.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.bundles import MOST_CONFIG, PIECE

#: where a storage driver keeps the files of a layer
FILES = {"overlay2": "overlay2/{}/diff", "fuse-overlayfs": "fuse-overlayfs/{}/diff", "btrfs": "btrfs/subvolumes/{}"}
CACHE_ID = re.compile(r"[0-9a-zA-Z]{1,128}")
DEEPEST = 256
#: kinds of a line of the record: a file's content, and bytes as they are (github.com/vbatts/tar-split, storage.Type)
CONTENT, BYTES = 1, 2


class _Line(msgspec.Struct):
    kind: int = msgspec.field(name="type")
    name: str | None = None
    raw_name: bytes | None = msgspec.field(name="name_raw", default=None)
    size: int = 0
    payload: bytes | None = None


class LayerDb:
    """That of one daemon."""

    def __init__(self, root: Path, driver: str) -> None:
        self._root = root
        self._driver = driver

    @property
    def is_readable(self) -> bool:
        """Whether we may look at all."""
        return self._driver in FILES and os.access(self._root / "image" / self._driver / "layerdb/sha256", os.X_OK)

    def config(self, digest: str) -> bytes:
        """The configuration of an image, byte for byte."""
        path = self._root / "image" / self._driver / "imagedb/content/sha256" / digest.removeprefix("sha256:")
        try:
            with path.open("rb") as file:
                return file.read(MOST_CONFIG)
        except OSError as error:
            raise PluginError(f"the configuration of {digest} cannot be read: {error.strerror}") from None

    def size(self, chain: str) -> int:
        """Bytes of the tar of the layer with this chain ID."""
        return sum(line.size if line.kind == CONTENT else len(line.payload or b"") for line in self._lines(chain))

    def pieces(self, chain: str) -> Iterator[bytes]:
        """The tar. It is the layer only if its SHA-256 says so."""
        buffer = bytearray()
        with closing(_Tree(self._files(chain))) as tree:
            for line in self._lines(chain):
                if line.kind == BYTES:
                    buffer += line.payload or b""
                elif line.size:
                    for piece in tree.read(_name(line), line.size):
                        buffer += piece
                        if len(buffer) >= PIECE:
                            yield bytes(buffer)
                            buffer.clear()
            yield bytes(buffer)

    def _lines(self, chain: str) -> Iterator[_Line]:
        decoder = msgspec.json.Decoder(_Line)
        try:
            with gzip.open(self._layer(chain) / "tar-split.json.gz") as file:
                for line in file:
                    yield decoder.decode(line)
        except (OSError, EOFError, zlib.error, msgspec.MsgspecError, ValueError) as error:
            raise PluginError(f"the record of layer {chain} cannot be read: {error}") from None

    def _layer(self, chain: str) -> Path:
        return self._root / "image" / self._driver / "layerdb/sha256" / chain.removeprefix("sha256:")

    def _files(self, chain: str) -> Path:
        try:
            name = (self._layer(chain) / "cache-id").read_text()
        except (OSError, ValueError) as error:
            raise PluginError(f"layer {chain} is not in the daemon's directory: {error}") from None
        if CACHE_ID.fullmatch(name) is None:
            raise PluginError(f"layer {chain} has no folder")
        return self._root / FILES[self._driver].format(name)


class _Tree:
    """Files below a directory, opened without ever following a symlink. What is open stays so for its neighbours."""

    def __init__(self, top: Path) -> None:
        try:
            self._open = [os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        except OSError as error:
            raise PluginError(f"the files of a layer cannot be read: {error}") from None
        self._names: list[bytes] = []

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def read(self, path: bytes, size: int) -> Iterator[bytes]:
        """So many bytes of a regular file."""
        *folders, name = [part for part in path.split(b"/") if part not in (b"", b".")] or [b".."]
        if b".." in (*folders, name) or len(folders) > DEEPEST:
            raise PluginError(f"a layer has a file with the name {os.fsdecode(path)!r}")
        try:
            self._enter(folders)
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._open[-1])
            try:
                while size:
                    piece = os.read(file, min(size, PIECE))
                    if not piece:
                        raise PluginError(f"the file {os.fsdecode(path)!r} of a layer is shorter than it was")
                    size -= len(piece)
                    yield piece
            finally:
                os.close(file)
        except OSError as error:
            raise PluginError(f"the file {os.fsdecode(path)!r} of a layer cannot be read: {error.strerror}") from None

    def _enter(self, folders: list[bytes]) -> None:
        while self._names != folders[: len(self._names)]:
            os.close(self._open.pop())
            self._names.pop()
        for name in folders[len(self._names) :]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open.append(os.open(name, flags, dir_fd=self._open[-1]))
            self._names.append(name)


def _name(line: _Line) -> bytes:
    return line.raw_name if line.raw_name is not None else os.fsencode(line.name or "")
