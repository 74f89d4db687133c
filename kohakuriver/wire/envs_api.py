"""Bodies and queries of the HTTP API about environments: versions, containers on the builder, operations, images.

What takes long is answered `202` with an OperationView; `GET /operations/{id}?follow=1` is lines of OperationViews, the
last one with its end. An upload (build, import, a file) is the raw body of its request.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from kohakuriver.wire.api import Request, View
from kohakuriver.wire.queries import Paging, Query

#: of an operation: it goes on; it went well; it did not
RUNNING, DONE, FAILED = "running", "done", "failed"
#: what an upload is, besides `application/x-tar`
UPLOAD_TYPE = "application/octet-stream"
NDJSON_TYPE = "application/x-ndjson"

EnvironmentName = Annotated[str, Meta(min_length=1, max_length=63)]
#: NAME or NAME:NUMBER
VersionName = Annotated[str, Meta(min_length=1, max_length=84)]
ImageName = Annotated[str, Meta(min_length=1, max_length=512)]
Note = Annotated[str, Meta(max_length=500)]
Pull = Annotated[str, Meta(pattern="^(missing|always|never)$")]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]


class VersionView(View, kw_only=True):
    """A version of an environment. It never changes."""

    environment: str
    number: int
    #: of the image
    digest: str
    #: bytes of all layers
    size: int
    syncer: str
    author: str
    note: str
    created: datetime
    #: open tasks that are to run in it
    tasks: int = 0
    #: it is being removed
    removing: bool = False


class EnvironmentView(View, kw_only=True):
    """An environment; `versions` newest first. Without versions it is being made, or its first has come to nothing."""

    name: str
    newest: int | None
    #: what a task without image and container runs in
    default: bool
    versions: list[VersionView]


class NewContainer(Request, kw_only=True):
    """An environment container: of an image, or of a version of an environment."""

    name: EnvironmentName
    image: ImageName | None = None
    environment: VersionName | None = None
    pull: Pull = "missing"


class PackageAsk(Request, kw_only=True):
    """The container becomes the next version of the environment of its name. `force`: also with terminals open."""

    note: Note = ""
    force: bool = False


class ReferenceAsk(Request, kw_only=True):
    """The image behind the reference becomes the next version, as it is."""

    image: ImageName
    note: Note = ""


class FolderAsk(Request, kw_only=True):
    """A directory to make."""

    path: Path


class RenameAsk(Request, kw_only=True):
    """A file or directory gets another name in the same container."""

    path: Path
    to: Path


class BuildQuery(Query, kw_only=True):
    """`dockerfile` is its path in the context."""

    dockerfile: Path = "Dockerfile"
    note: Note = ""


class ImportQuery(Query, kw_only=True):
    """What people say of the version."""

    note: Note = ""


class StoredQuery(Query, kw_only=True):
    """Of which syncer; without it, of the one in use."""

    syncer: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class ShellQuery(Query, kw_only=True):
    """`argv` is the command as a JSON list of words; without it, the container's best shell."""

    argv: Annotated[str, Meta(max_length=4000)] = "[]"
    columns: Annotated[int, Meta(ge=1, le=65_535)] = 80
    rows: Annotated[int, Meta(ge=1, le=65_535)] = 24
    term: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9+._-]+$")] = "xterm-256color"


class PathQuery(Query, kw_only=True):
    """An absolute path in the container."""

    path: Path


class DeleteQuery(PathQuery, kw_only=True):
    """With everything in it, or refused where it is a directory with something in it."""

    recursive: bool = False


class WriteQuery(PathQuery, kw_only=True):
    """The bits of its mode; without them the file keeps its own."""

    mode: Annotated[int, Meta(ge=0, le=0o7777)] | None = None


class OperationQuery(Query, kw_only=True):
    """`follow` is lines of OperationViews until its end."""

    follow: bool = False


class OperationsQuery(Paging, kw_only=True):
    """Newest first."""


class ContainerView(View, kw_only=True):
    """An environment container."""

    name: str
    #: running, stopped or broken
    state: str
    #: digest of the image that it is made of
    base: str
    #: the reference or version that it was made from
    origin: str
    created: datetime | None
    #: bytes written since it was made of its base
    size: int | None
    shells: int


class FailureView(View, kw_only=True, omit_defaults=True):
    """Why an operation failed, as the error of a request."""

    code: str
    detail: str
    field: str | None = None
    value: str | None = None
    limit: str | None = None


class OperationView(View, kw_only=True):
    """Something that takes long. Bytes where `done` and `total` are given."""

    id: str
    #: container, package, build, import, reference, remove
    kind: str
    #: the environment or container that it is about
    name: str
    #: running, done or failed
    state: str
    #: how far it is, in words
    note: str
    done: int | None
    total: int | None
    by: str
    started: datetime
    ended: datetime | None
    #: the version that it made or removed
    number: int | None
    #: bytes that were moved for it
    moved: int | None
    error: FailureView | None


class StoredView(View, kw_only=True):
    """A version as it lies on the medium of a syncer. `known`: it is one of this cluster's."""

    environment: str
    number: int
    digest: str
    size: int
    created: datetime | None
    #: made by another system, such as the predecessor
    foreign: bool
    known: bool


class FileView(View, kw_only=True):
    r"""A file in a container, as lstat tells. Bytes of a name that are no UTF-8 stand there as \xNN."""

    name: str
    #: file, directory, link or other
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    modified: datetime | None
    #: where a link points
    target: str


class ImageView(View, kw_only=True):
    """An image on a node. Without a digest the node could not be asked, and `problem` says why."""

    node: str
    digest: str
    names: list[str]
    size: int
    created: datetime | None
    #: a container is made of it
    used: bool
    #: the version as which it was fetched, NAME:NUMBER; null: not by us
    environment: str | None
    problem: str | None = None
