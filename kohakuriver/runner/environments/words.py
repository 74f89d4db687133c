"""Values of the plugin contract as they cross the link, and errors as the other side reads them."""

from collections.abc import Iterable

from kohakuriver.errors import Invalid, KohakuRiverError
from kohakuriver.hooks.environments import EnvironmentContainer, FileInfo
from kohakuriver.hooks.packages import HeldImage, Package, Stored, Version
from kohakuriver.hooks.values import Image
from kohakuriver.wire.environments import Container, Failure, File, NodeImage, StoredVersion
from kohakuriver.wire.link import WireVersion

#: what backends that take bundles and references say in `Features.images`
KIND = "oci"


def failure(error: KohakuRiverError) -> Failure:
    """Why not."""
    return Failure(code=error.code, message=error.message, name=error.field, value=error.value, limit=error.limit)


def container(found: EnvironmentContainer) -> Container:
    return Container(
        name=found.name,
        state=found.state,
        base=found.base,
        origin=found.origin,
        created=found.created,
        size=found.size,
        shells=found.shells,
        note=found.note,
    )


def images(found: Iterable[HeldImage]) -> list[NodeImage]:
    """Images of a node, those of environments last."""
    listed = [
        NodeImage(
            digest=one.digest,
            names=list(one.names),
            size=one.size,
            created=one.created,
            used=one.used,
            environment=one.environment[0] if one.environment else "",
            number=one.environment[1] if one.environment else 0,
        )
        for one in found
    ]
    return sorted(listed, key=lambda one: (one.environment, one.number, one.digest))


def file(found: FileInfo) -> File:
    return File(
        name=spoken(found.name),
        kind=found.kind,
        size=found.size,
        mode=found.mode,
        uid=found.uid,
        gid=found.gid,
        modified=found.modified,
        target=spoken(found.target),
    )


def spoken(name: str) -> str:
    r"""A name as JSON can carry it: bytes that are no UTF-8 as \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def version_of(version: WireVersion) -> Version:
    return Version(environment=version.environment, number=version.number, digest=version.digest)


def stored_of(version: WireVersion) -> Stored:
    """As syncers know it."""
    return Stored(version=version_of(version), locator=version.locator, size=version.size, blobs=tuple(version.blobs))


def image_of(version: WireVersion, kind: str = KIND) -> Image:
    """The image of a version that is here, named by its digest alone."""
    return Image(
        kind=kind,
        digest=version.digest,
        reference=version.digest,
        environment=version.environment,
        number=version.number,
        pull="never",
    )


def reference(name: str, pull: str = "missing", kind: str = KIND) -> Image:
    """An image by its name. Raises Invalid for an unknown word of when to fetch."""
    match pull:
        case "missing" | "always" | "never":
            return Image(kind=kind, reference=name, pull=pull)
    raise Invalid("no such word for when an image is fetched", field="pull", value=pull, limit="missing, always, never")


def wire_version(stored: Stored, syncer: str, package: Package | None = None) -> WireVersion:
    return WireVersion(
        environment=stored.version.environment,
        number=stored.version.number,
        digest=stored.version.digest,
        syncer=syncer,
        locator=stored.locator,
        size=stored.size if package is None else package.size,
        blobs=list(stored.blobs),
    )


def stored_version(stored: Stored, syncer: str) -> StoredVersion:
    return StoredVersion(
        version=wire_version(stored, syncer), size=stored.size, created=stored.created, foreign=stored.foreign
    )
