"""Environments and their versions out of their rows, and the statements that change them. Knows no rule of keeping."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from kohakuriver.domain.environments import version_name
from kohakuriver.store.columns import micros, moment
from kohakuriver.store.environment_models import EnvironmentRow, VersionRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import Statement, delete, insert, update


@dataclass(frozen=True, kw_only=True)
class StoredVersion:
    """A version as recorded. Nothing of it ever changes but `removing`."""

    environment: str
    number: int
    #: of the image
    digest: str
    #: bytes of all layers
    size: int
    syncer: str
    locator: str
    #: contents of the host's blob store that it needs
    blobs: tuple[str, ...]
    #: who made it, in words
    author: str
    note: str
    created: datetime
    removing: bool = False

    @property
    def name(self) -> str:
        return version_name(self.environment, self.number)


async def all_environments(reader: Reader) -> dict[str, int]:
    """Every environment, with the highest number that was ever set aside for a version of it."""
    rows = await reader.of(EnvironmentRow).order_by("name").values("name", "highest")
    return {row["name"]: row["highest"] for row in rows}


async def all_versions(reader: Reader) -> list[StoredVersion]:
    """Every version, those that are being removed too, by name and number."""
    rows = await reader.of(VersionRow).order_by("environment_id", "number").values()
    return [
        StoredVersion(
            environment=row["environment_id"],
            number=row["number"],
            digest=row["digest"],
            size=row["size"],
            syncer=row["syncer"],
            locator=row["locator"],
            blobs=tuple(msgspec.json.decode(row["blobs"], type=list[str])),
            author=row["author"],
            note=row["note"],
            created=moment(row["created"]),
            removing=bool(row["removing"]),
        )
        for row in rows
    ]


def set_aside(environment: str, highest: int, now: datetime) -> Statement:
    """The number after `highest`, which is what the store has; 0: it has no such environment yet.

    ConstraintFailed or WrongCount when somebody else was faster.
    """
    if not highest:
        return insert(EnvironmentRow, name=environment, highest=1, created=micros(now))
    where = {"name": environment, "highest": highest}
    return update(EnvironmentRow, where=where, set={"highest": highest + 1})


def add_version(version: StoredVersion) -> Statement:
    """From the commit of this on it exists."""
    return insert(
        VersionRow,
        id=version.name,
        environment_id=version.environment,
        number=version.number,
        digest=version.digest,
        size=version.size,
        syncer=version.syncer,
        locator=version.locator,
        blobs=msgspec.json.encode(list(version.blobs)).decode(),
        author=version.author,
        note=version.note,
        created=micros(version.created),
    )


def begin_removal(version: StoredVersion) -> Statement:
    """From the commit of this on nobody can name it. WrongCount when it is so already."""
    return update(VersionRow, where={"id": version.name, "removing": False}, set={"removing": True})


def end_removal(version: StoredVersion) -> Statement:
    """It is gone from its medium. May be called twice."""
    return delete(VersionRow, where={"id": version.name, "removing": True})
