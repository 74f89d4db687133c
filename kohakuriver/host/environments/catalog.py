"""Every environment and version in memory, as last committed. Written after commits alone; waits for nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kohakuriver.domain.environments import parse_version, version_name
from kohakuriver.errors import NotFound
from kohakuriver.store.environments import StoredVersion
from kohakuriver.wire.link import WireVersion

#: names in one sentence
MOST_NAMED = 12


class Catalog:
    """Environments by name, versions by `NAME:NUMBER`."""

    def __init__(self, highest: Mapping[str, int] | None = None, versions: Iterable[StoredVersion] = ()) -> None:
        self._highest = dict(highest or {})
        self._versions = {version.name: version for version in versions}
        self._held: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Every environment, by name; also those without a version."""
        return sorted(self._highest)

    def highest(self, environment: str) -> int:
        """The highest number that was ever set aside; 0: there is no such environment."""
        return self._highest.get(environment, 0)

    def all(self) -> list[StoredVersion]:
        """Every version, those that are being removed too."""
        return list(self._versions.values())

    def of(self, environment: str) -> list[StoredVersion]:
        """The versions of one environment, newest first, those that are being removed too."""
        found = [one for one in self._versions.values() if one.environment == environment]
        return sorted(found, key=lambda one: one.number, reverse=True)

    def newest(self, environment: str) -> StoredVersion | None:
        """The newest that can be named."""
        return next((one for one in self.of(environment) if not one.removing), None)

    def get(self, name: str | None) -> StoredVersion | None:
        """The version of that full name, if it can be named."""
        found = None if name is None else self._versions.get(name)
        return None if found is None or found.removing else found

    def find(self, text: str, field: str = "container") -> StoredVersion:
        """What `NAME[:NUMBER]` means now. Raises Invalid, or NotFound that says what there is."""
        environment, number = parse_version(text, field)
        found = self.newest(environment) if number is None else self.get(version_name(environment, number))
        if found is not None:
            return found
        raise self.lacking(environment, number, field)

    def lacking(self, environment: str, number: int | None, field: str) -> NotFound:
        """Why a name means nothing, with what there is instead."""
        numbers = [str(one.number) for one in self.of(environment) if not one.removing]
        if number is not None and numbers:
            there = _few(numbers)
            return NotFound(f"{environment} has no version {number}; it has {there}", field=field, value=number)
        names = [name for name in self.names() if self.newest(name) is not None]
        there = f"there are {_few(names)}" if names else "there is none yet"
        return NotFound(f"there is no environment {environment}; {there}", field=field, value=environment)

    def told(self, name: str | None) -> WireVersion | None:
        """The version as nodes are told of it."""
        version = None if name is None else self._versions.get(name)
        return None if version is None else wire_version(version)

    def blobs(self) -> frozenset[str]:
        """Every content of the blob store that some version needs."""
        return frozenset(blob for version in self._versions.values() for blob in version.blobs)

    def hold(self, name: str) -> None:
        """Something that is to use this version is being stored: nobody begins to remove it, until `let_go`."""
        self._held[name] += 1

    def let_go(self, name: str | None) -> None:
        """It was stored, or came to nothing. Nothing happens for None."""
        if name is not None:
            self._held[name] -= 1
            self._held += Counter()

    def held(self, name: str) -> bool:
        return self._held[name] > 0

    def set_aside(self, environment: str, number: int) -> None:
        """The number was given out."""
        self._highest[environment] = max(number, self.highest(environment))

    def add(self, version: StoredVersion) -> None:
        self._versions[version.name] = version

    def mark(self, version: StoredVersion, *, removing: bool) -> None:
        """Whether it is being removed."""
        self._versions[version.name] = replace(version, removing=removing)

    def drop(self, version: StoredVersion) -> None:
        self._versions.pop(version.name, None)


def wire_version(version: StoredVersion) -> WireVersion:
    """The version as it crosses the link."""
    return WireVersion(
        environment=version.environment,
        number=version.number,
        digest=version.digest,
        syncer=version.syncer,
        locator=version.locator,
        size=version.size,
        blobs=list(version.blobs),
    )


def _few(words: list[str]) -> str:
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
