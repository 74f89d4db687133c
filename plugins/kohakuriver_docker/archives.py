"""Archives as `docker save` writes them, checked member by member before anything of them reaches an engine.

Two layouts are known: that of Docker 20.10 (`<id>/layer.tar`, `<digest>.json`) and that of newer ones, OCI's with a
`manifest.json` beside it (`blobs/sha256/<digest>`). Names of images inside are never read. Everything here blocks.
"""

import gzip
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zstandard

from kohakuriver.errors import Invalid, PluginError, shorten
from kohakuriver.hooks.bundles import MOST_CONFIG, MOST_LAYERS, check
from kohakuriver.hooks.packages import Layer, Package
from kohakuriver_docker.tars import Budget, Member, Source, members

HEX = "[0-9a-f]{64}"
FOLDER = re.compile(rf"{HEX}/?|\./?|blobs/?|blobs/sha256/?")
PLAIN = re.compile(rf"manifest\.json|repositories|index\.json|oci-layout|{HEX}\.json|{HEX}/(?:json|VERSION)")
LAYER = re.compile(rf"{HEX}/layer\.tar|blobs/sha256/{HEX}")
CONFIG = re.compile(rf"({HEX})\.json|blobs/sha256/({HEX})")
#: how 20.10 writes a layer that two of an image's have in common
TARGET = re.compile(rf"\.\./({HEX}/layer\.tar)")
MANIFEST = "manifest.json"
#: bytes of all texts of an archive together
MOST_TEXT = 4 * MOST_CONFIG
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: bytes that unpacking may look back on; zstd's own default at its highest levels
WINDOW = 1 << 27
Damaged = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)
#: told how many bytes of the file were read
Told = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An image in a file that was checked. The file is held open: whatever is put in its place is never read."""

    package: Package
    #: the diff ID of the layer that each of these members holds
    holds: Mapping[str, str]
    file: int
    most: int

    def layers(self, wanted: frozenset[str]) -> Iterator[tuple[Layer, Iterator[bytes]]]:
        """These layers, each to be read and hashed before the next one is asked for: the file may have been written
        to meanwhile. Raises Invalid.
        """
        left = set(wanted)
        sizes = {layer.digest: layer for layer in self.package.layers}
        with _unpacked(self.file, lambda _: None) as source:
            for member, content in members(source, Budget(self.most)):
                digest = self.holds.get(member.name)
                if digest in left:
                    left.discard(digest)
                    yield sizes[digest], _pieces(_inflated(content))


@contextmanager
def opened(path: Path, *, most: int, architecture: str = "", told: Told = lambda _: None) -> Iterator[Archive]:
    """The image of an archive: plain, gzip or zstd. Raises Invalid, naming what is wrong with it; OSError.

    `most` is the bytes that it may have, `architecture` what its programs must be made for ("": anything).
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid(f"archive {path.name} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Invalid(f"archive {path.name} is no regular file")
        try:
            package, holds = _examined(file, most, architecture, told)
        except Invalid as error:
            error.message = f"archive {path.name}: {error.message}"
            error.args = (error.message,)
            raise
        yield Archive(package=package, holds=holds, file=file, most=most)
    finally:
        os.close(file)


class _Item(msgspec.Struct):
    """Of manifest.json."""

    config: str = msgspec.field(name="Config")
    layers: list[str] = msgspec.field(name="Layers")


class _RootFs(msgspec.Struct):
    diff_ids: list[str]


class _Config(msgspec.Struct):
    """Of an image's configuration (OCI image specification, config)."""

    rootfs: _RootFs
    architecture: str = ""
    os: str = "linux"


@dataclass
class _Contents:
    """What was found in an archive."""

    texts: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def layer(self, name: str) -> tuple[str, Layer]:
        """The layer of this name, and the name of the member that holds it."""
        place = self.links.get(name, name)
        if place not in self.layers:
            raise Invalid(f"member {shorten(name)!r}, which it names as a layer, is not there", field=shorten(name))
        return place, self.layers[place]


def must_suit(config: bytes, architecture: str) -> list[str]:
    """The diff IDs of a configuration. Raises Invalid when it cannot be read or is of an image for other machines."""
    try:
        found = msgspec.json.decode(config, type=_Config)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"its configuration cannot be read: {shorten(error)}") from None
    for word, wanted, value in (("system", "linux", found.os), ("architecture", architecture, found.architecture)):
        if wanted and value and value != wanted:
            raise Invalid(f"it is made for the {word} {shorten(value)!r}, not for {wanted}", value=value, limit=wanted)
    if len(found.rootfs.diff_ids) > MOST_LAYERS:
        raise Invalid(f"it has {len(found.rootfs.diff_ids)} layers, more than {MOST_LAYERS}", limit=MOST_LAYERS)
    return found.rootfs.diff_ids


def _examined(file: int, most: int, architecture: str, told: Told) -> tuple[Package, Mapping[str, str]]:
    with _unpacked(file, told) as source:
        contents = _read(source, Budget(most))
    item = _item(contents)
    named = CONFIG.fullmatch(item.config)
    if named is None or item.config not in contents.texts:
        raise Invalid(f"member {shorten(item.config)!r}, which it names as the configuration, is not there")
    config = contents.texts[item.config]
    digest = hashlib.sha256(config).hexdigest()
    if digest not in named.groups():
        raise Invalid(f"member {item.config} has the SHA-256 {digest}", field=item.config, value=digest)
    wanted = must_suit(config, architecture)
    if len(wanted) != len(item.layers):
        raise Invalid(f"it has {len(item.layers)} layers, and its configuration names {len(wanted)}")
    holds: dict[str, str] = {}
    layers: list[Layer] = []
    for name, expected in zip(item.layers, wanted, strict=True):
        place, layer = contents.layer(name)
        if layer.digest != expected:
            raise Invalid(
                f"member {place} has the SHA-256 {layer.digest}, and the configuration names {shorten(expected)}",
                field=place,
                value=layer.digest,
            )
        holds[place] = layer.digest
        layers.append(layer)
    package = Package(digest=f"sha256:{digest}", config=config, layers=tuple(layers))
    try:
        check(package)
    except (PluginError, RecursionError) as error:
        raise Invalid(shorten(error)) from None
    return package, holds


def _item(contents: _Contents) -> _Item:
    if MANIFEST not in contents.texts:
        raise Invalid(f"it is no archive of an image: it has no {MANIFEST}")
    try:
        items = msgspec.json.decode(contents.texts[MANIFEST], type=list[_Item])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"member {MANIFEST} cannot be read: {shorten(error)}", field=MANIFEST) from None
    if len(items) != 1:
        raise Invalid(f"it has {len(items)} images; save one alone", field=MANIFEST, value=len(items), limit=1)
    return items[0]


def _read(source: Source, budget: Budget) -> _Contents:
    found = _Contents()
    text = Budget(MOST_TEXT)
    for member, content in members(source, budget):
        _must_belong(member)
        if member.kind == "directory":
            continue
        if member.name in found.names:
            raise Invalid(f"member {member.name} is there twice", field=member.name)
        found.names.add(member.name)
        if member.kind == "link":
            target = TARGET.fullmatch(member.target)
            assert target is not None
            found.links[member.name] = target[1]
        elif LAYER.fullmatch(member.name) and content.peek(1) != b"{":
            found.layers[member.name] = _hashed(_inflated(content), member.name, budget)
        else:
            text.take(member.size, member.name)
            found.texts[member.name] = content.exactly(member.size)
    return found


def _must_belong(member: Member) -> None:
    """Raises Invalid for a member that no daemon writes."""
    name = shorten(member.name)
    if member.kind == "link":
        if LAYER.fullmatch(member.name) is None or TARGET.fullmatch(member.target) is None:
            raise Invalid(
                f"member {name!r} is a symbolic link to {shorten(member.target)!r}", field=name, value=member.target
            )
        return
    known = FOLDER.fullmatch(member.name) if member.kind == "directory" else _is_known(member.name)
    if not known:
        raise Invalid(f"member {name!r} does not belong into an archive of an image", field=name)


def _is_known(name: str) -> bool:
    return bool(PLAIN.fullmatch(name) or LAYER.fullmatch(name))


def _hashed(content: Source, name: str, budget: Budget) -> Layer:
    """The layer that a member holds, by its digest and bytes before compression."""
    hashed = hashlib.sha256()
    size = 0
    for piece in _pieces(content):
        hashed.update(piece)
        size += len(piece)
        if isinstance(content, _Inflated):
            budget.take(len(piece), name)
    return Layer(digest=f"sha256:{hashed.hexdigest()}", size=size)


class _Inflated(Source):
    """What comes out of a compressed source."""


def _inflated(source: Source) -> Source:
    """The source itself when it is not compressed."""
    head = source.peek(len(ZSTD))
    if head.startswith(GZIP):
        return _Inflated(gzip.GzipFile(fileobj=source, mode="rb").read)  # type: ignore[call-overload]
    if head == ZSTD:
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return _Inflated(reader.stream_reader(source, read_across_frames=True, closefd=False).read)  # type: ignore[arg-type]
    return source


def _pieces(source: Source) -> Iterator[bytes]:
    while piece := source.read():
        yield piece


@contextmanager
def _unpacked(file: int, told: Told) -> Iterator[Source]:
    """The archive's tar from its beginning. Whatever is wrong with its compression is Invalid."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = os.pread(file, size, at)
        at += len(piece)
        told(at)
        return piece

    try:
        yield _inflated(Source(read))
    except Damaged as error:
        raise Invalid(f"its compression is damaged: {shorten(error)}") from None
