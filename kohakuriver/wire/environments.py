"""Environments on the link: what a builder is asked, what a node must have, how far it is.

A stream of the kind "environment" carries one operation: its dial has the argument `ask` (JSON of an `Ask`), then both
sides speak frames (wire/frames.py): data of an upload or a terminal from the host, progress and data from the runner,
and at the end exactly one RESULT or ERROR. An end of the stream without either is a failure that may be tried again.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, field

from kohakuriver.wire.link import (
    WireVersion,
)
from kohakuriver.wire.numbers import Count

STREAM_KIND = "environment"


class Ask(msgspec.Struct, kw_only=True, tag_field="op", omit_defaults=True):
    """Something that a runner is asked."""


class ListContainers(Ask, kw_only=True, tag="list"):
    """Answer: Containers."""


class CreateContainer(Ask, kw_only=True, tag="create"):
    """From an image reference or a version. Answer: Container."""

    name: str
    image: str = ""
    pull: str = "missing"
    version: WireVersion | None = None


class StartContainer(Ask, kw_only=True, tag="start"):
    """Answer: Done."""

    name: str


class StopContainer(Ask, kw_only=True, tag="stop"):
    """Answer: Done."""

    name: str


class DeleteContainer(Ask, kw_only=True, tag="delete"):
    """Answer: Done."""

    name: str


class PackageContainer(Ask, kw_only=True, tag="package"):
    """Commit, export, publish. Answer: Published. The container waits for `settle`, which comes after the host has the
    version in its store.
    """

    name: str
    #: number that the host has set aside for it
    number: Count
    syncer: str
    force: bool = False


class SettleContainer(Ask, kw_only=True, tag="settle"):
    """The version is stored: the container is made anew of it. Answer: Done."""

    name: str
    version: WireVersion


class BuildVersion(Ask, kw_only=True, tag="build"):
    """The data frames are a tar of the context, compressed or not. Answer: Published."""

    name: str
    number: Count
    syncer: str
    dockerfile: str = "Dockerfile"


class ImportVersion(Ask, kw_only=True, tag="import"):
    """The data frames are an archive as `docker save` writes it. Answer: Published."""

    name: str
    number: Count
    syncer: str


class PublishReference(Ask, kw_only=True, tag="reference"):
    """The image behind a reference is fetched and published as it is. Answer: Published."""

    name: str
    number: Count
    syncer: str
    image: str


class RemoveVersion(Ask, kw_only=True, tag="remove"):
    """From the syncer's medium. Answer: Done."""

    version: WireVersion


class ListStored(Ask, kw_only=True, tag="stored"):
    """What lies on the syncer's medium. Answer: StoredVersions."""

    syncer: str


class Sweep(Ask, kw_only=True, tag="sweep"):
    """All versions that the host knows: what interrupted operations left beside them goes. Answer: Done."""

    versions: list[WireVersion] = []


class ListImages(Ask, kw_only=True, tag="images"):
    """What this node holds. Answer: Images."""


class Shell(Ask, kw_only=True, tag="shell"):
    """A terminal: data and window frames both ways, then ShellEnded."""

    name: str
    argv: list[str] = []
    columns: Count = 80
    rows: Count = 24
    env: dict[str, str] = {}


class FileAsk(Ask, kw_only=True, tag="file"):
    """stat, list, read, write, mkdir, rename or delete. Answer: FileList; data frames carry the bytes of a file."""

    name: str
    verb: str
    path: str
    to: str = ""
    size: Count = 0
    mode: Count | None = None
    recursive: bool = False


AnyAsk = (
    ListContainers
    | CreateContainer
    | StartContainer
    | StopContainer
    | DeleteContainer
    | PackageContainer
    | SettleContainer
    | BuildVersion
    | ImportVersion
    | PublishReference
    | RemoveVersion
    | ListStored
    | Sweep
    | ListImages
    | Shell
    | FileAsk
)


class OperationProgress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far it is; bytes where both are given."""

    note: str
    done: Count | None = None
    total: Count | None = None


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why not, as an error of the API: its code, its sentence, and the field, value and limit that it names."""

    code: str
    message: str
    name: str | None = field(name="field", default=None)
    value: str | None = None
    limit: str | None = None


class Done(msgspec.Struct, kw_only=True):
    """It went well."""


class ShellEnded(msgspec.Struct, kw_only=True):
    """The program on the terminal has ended."""

    code: int


class Container(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As hooks.environments.EnvironmentContainer."""

    name: str
    state: str
    base: str = ""
    origin: str = ""
    created: datetime | None = None
    size: Count | None = None
    shells: Count = 0
    note: str = ""


class Containers(msgspec.Struct, kw_only=True):
    """Those of one builder."""

    containers: list[Container] = []


class Published(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version that every node can have from now on, once the host has stored it."""

    version: WireVersion
    #: bytes that were moved for it
    moved: Count = 0


class StoredVersion(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As hooks.packages.Stored."""

    version: WireVersion
    size: Count = 0
    created: datetime | None = None
    foreign: bool = False


class StoredVersions(msgspec.Struct, kw_only=True):
    """What lies on a medium."""

    versions: list[StoredVersion] = []


class NodeImage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As hooks.packages.HeldImage."""

    digest: str
    names: list[str] = []
    size: Count = 0
    created: datetime | None = None
    used: bool = False
    environment: str = ""
    number: Count = 0


class Images(msgspec.Struct, kw_only=True):
    """Those of one node."""

    images: list[NodeImage] = []


class File(msgspec.Struct, kw_only=True, omit_defaults=True):
    r"""As hooks.environments.FileInfo; bytes of a name that are no UTF-8 stand there as \xNN."""

    name: str
    kind: str
    size: Count = 0
    mode: Count = 0
    uid: Count = 0
    gid: Count = 0
    modified: datetime | None = None
    target: str = ""


class FileList(msgspec.Struct, kw_only=True):
    """The file that was asked for, or the entries of a directory."""

    files: list[File] = []


#: digests in one question after blobs
MOST_DIGESTS = 1000
#: what the body of an upload and of a download is
BLOB_TYPE = "application/zstd"


class MissingAsk(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /node/missing-blobs`, by a node that publishes: which of these has the host not got? Answer: Missing.

    `PUT /node/blobs/{digest}`: the body is one zstd stream whose content has that digest, with Content-Length. 204: the
    host has it on its disk now, or had it; nothing is there otherwise. 409 `conflict`: this digest is being uploaded
    already, or no publishing of this node is under way; 422 `invalid`: the content has another digest or is no zstd;
    507 `storage_full`. `GET /node/blobs/{digest}`: that zstd file, always the same bytes, with `Range: bytes=N-` and
    ETag; 200, 206, 416, or 404 when the host has not got it, or the node neither holds a task that needs it nor builds.
    """

    digests: Annotated[list[Annotated[str, Meta(max_length=71)]], Meta(max_length=MOST_DIGESTS)]


class Missing(msgspec.Struct, kw_only=True):
    """Those of the question that the host has not got, in its order."""

    digests: list[str]
