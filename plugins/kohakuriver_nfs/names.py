"""What files on the share are called, and what is written in those that are not archives. Touches no file.

    .kohakuriver                           whose share it is: {"cluster": "…"}; empty before the first publish
    <env>-<unix time>.tar.zst              an archive, as `docker save` writes it
    <env>-<unix time>.json                 its manifest; the version exists from the moment that this is there
    .part-<env>-<unix time>~<node>~<life>.claim    somebody writes or removes these
    .part-<env>-<unix time>.tar.zst|.json  not finished

The predecessor has `<env>-<unix time>.tar*` alone.
"""

import re
from datetime import datetime

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.packages import DIGEST, Stored, Version

SENTINEL = ".kohakuriver"
PART = ".part-"
ARCHIVE = re.compile(
    r"(?P<stem>(?P<environment>[a-z0-9][a-z0-9._-]{0,62})-(?P<time>[0-9]{9,12}))\.tar(?:\.[a-z0-9]{1,4})?"
)
CLAIM = re.compile(r"\.part-(?P<stem>[a-z0-9][a-z0-9._-]*)~(?P<node>[^~/]*)~(?P<life>[0-9a-f]+)\.claim")
#: a manifest or a sentinel beyond this is none
MOST = 1 << 20


class Layer(msgspec.Struct, kw_only=True):
    """As hooks.packages.Layer."""

    digest: str
    size: int


class Manifest(msgspec.Struct, kw_only=True):
    """What lies beside an archive."""

    version: int = 1
    cluster: str
    environment: str
    number: int
    digest: str
    archive: str
    #: bytes and SHA-256 (64 hex digits) of the archive as it is
    size: int
    sha256: str
    created: datetime
    layers: list[Layer] = []


class Locator(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the host keeps of a version: with the SHA-256 from its publisher, nobody can swap the archive."""

    file: str
    size: int = 0
    sha256: str = ""


class Sentinel(msgspec.Struct, kw_only=True):
    """Whose share it is."""

    cluster: str


def locate(stored: Stored) -> Locator:
    """Where the archive of a version is. Raises PluginError for what is no locator of ours."""
    try:
        locator = msgspec.json.decode(stored.locator.encode(), type=Locator)
    except (msgspec.DecodeError, UnicodeError):
        locator = Locator(file="")
    if ARCHIVE.fullmatch(locator.file) is None:
        raise PluginError(f"version {words(stored.version)} has no archive: {stored.locator[:80]!r} leads nowhere")
    return locator


def stored(manifest: Manifest, cluster: str) -> Stored:
    """The version that a manifest tells of."""
    locator = Locator(file=manifest.archive, size=manifest.size, sha256=manifest.sha256)
    return Stored(
        version=Version(environment=manifest.environment, number=manifest.number, digest=manifest.digest),
        locator=msgspec.json.encode(locator).decode(),
        size=manifest.size,
        created=manifest.created,
        foreign=manifest.cluster != cluster,
    )


def decode(data: bytes) -> Manifest | None:
    """A manifest that is whole; None for anything else."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeError):
        return None
    right = ARCHIVE.fullmatch(manifest.archive) and DIGEST.fullmatch(manifest.digest) and manifest.size >= 0
    return manifest if right and manifest.version == 1 else None


def words(version: Version) -> str:
    """A version as people write it."""
    return f"{version.environment}:{version.number}"
