"""The shared directory: what lies in it, and how versions come and go. Everything here blocks; OSError goes through."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.packages import Package, Stored, Version
from kohakuriver.hooks.room import need_room
from kohakuriver_nfs import archive, claims, names
from kohakuriver_nfs.names import Layer, Manifest, words
from kohakuriver_nfs.patience import Pulse

#: bytes that stay free on the share beside an archive
MARGIN = 1 << 20
MOST_TRIES = 1000


class Share:
    """One directory, as this node sees it."""

    def __init__(self, folder: Path, cluster: str, node: str, stale: float) -> None:
        self.folder = folder
        self._cluster = cluster
        self._node = node
        self._stale = stale

    def check(self) -> bool:
        """Whether it was used before. Raises PluginError when it is not there or not this cluster's.

        An empty mount point has no sentinel, so that it is never taken for the share.
        """
        try:
            data = _few(self.folder / names.SENTINEL)
        except FileNotFoundError:
            raise PluginError(
                f"{self.folder} has no file {names.SENTINEL}: it is not mounted here, or not set up yet; "
                f"once it is mounted, `touch {self.folder / names.SENTINEL}` makes it the place for environments"
            ) from None
        if not data:
            return False
        try:
            owner = msgspec.json.decode(data, type=names.Sentinel).cluster
        except (msgspec.DecodeError, UnicodeError):
            raise PluginError(f"{self.folder / names.SENTINEL} cannot be read: it should name a cluster") from None
        if owner != self._cluster:
            raise PluginError(f"{self.folder} belongs to cluster {owner[:40]!r}, and this node to {self._cluster!r}")
        return True

    def list(self, pulse: Pulse) -> list[Stored]:
        """Whole versions: ours, those of other clusters, and archives without a manifest, as the predecessor left."""
        self.check()
        unfinished = claims.held(self.folder)
        archives = {path.name: path for path in self.folder.iterdir() if names.ARCHIVE.fullmatch(path.name)}
        found: list[Stored] = []
        for manifest in self._manifests(pulse):
            path = archives.pop(manifest.archive, None)
            if path is not None and _size(path) == manifest.size:
                found.append(names.stored(manifest, self._cluster))
        for name, path in archives.items():
            told = names.ARCHIVE.fullmatch(name)
            if told and told["stem"] not in unfinished and not (self.folder / f"{told['stem']}.json").exists():
                found.append(_predecessors(path, told["environment"], int(told["time"])))
        return sorted(found, key=lambda one: (one.version.environment, one.version.number))

    def find(self, version: Version, pulse: Pulse) -> Stored | None:
        """The version if it is here and right to the last byte; one that is spoiled is removed."""
        if not self.check():
            return None
        claims.clean(self.folder, self._node, pulse)
        for manifest in self._manifests(pulse):
            if manifest.cluster != self._cluster or _version(manifest) != version:
                continue
            path = self.folder / manifest.archive
            with suppress(FileNotFoundError):
                if path.stat().st_size == manifest.size and archive.sha256(path, pulse) == manifest.sha256:
                    return names.stored(manifest, self._cluster)
            self.remove(manifest.archive, pulse)
        return None

    def write(self, version: Version, package: Package, bundle: Path, pulse: Pulse) -> Stored:
        """Publishes a bundle that carries every layer. The rename of the manifest is the moment of its being."""
        self._adopt()
        need_room(self.folder, MARGIN + sum(path.stat().st_size for path in bundle.iterdir()), words(version))
        for stem in self._stems(version.environment):
            with claims.claimed(self.folder, stem, self._node) as claim:
                claims.clean(self.folder, self._node, pulse, claim, self._stale)
                file = self._begin(stem)
                if file is not None:
                    with file:
                        watched = archive.Hashed(file, _Touching(pulse, claim))
                        return self._write(claim, version, package, bundle, watched)
        raise PluginError(f"{words(version)}: somebody else publishes {version.environment} all the time")

    def _begin(self, stem: str) -> BinaryIO | None:
        """The unfinished archive, which only one can make; None when the stem is somebody else's."""
        part = self.folder / f"{names.PART}{stem}.tar.zst"
        try:
            file = part.open("xb")
        except FileExistsError:
            return None
        if (self.folder / f"{stem}.tar.zst").exists():  # another was renamed after the stem was looked at
            file.close()
            part.unlink(missing_ok=True)
            return None
        return file

    def _write(
        self, claim: claims.Claim, version: Version, package: Package, bundle: Path, file: archive.Hashed
    ) -> Stored:
        try:
            archive.write(bundle, package, file)
            file.settle()
            name = f"{claim.stem}.tar.zst"
            (self.folder / f"{names.PART}{name}").rename(self.folder / name)
            manifest = self._manifest(version, package, name, file)
            self._put(f"{claim.stem}.json", msgspec.json.encode(manifest))
            claim.path.stat()  # FileNotFoundError: we were so slow that we were taken for dead
        except BaseException:
            (self.folder / f"{claim.stem}.json").unlink(missing_ok=True)
            claims.undo(self.folder, claim.stem)
            claim.path.unlink(missing_ok=True)
            raise
        return names.stored(manifest, self._cluster)

    def read(self, stored: Stored, into: Path, pulse: Pulse) -> tuple[Path, str]:
        """A verified copy of the archive, and the digest of its image. Raises PluginError with the cause."""
        self.check()
        locator = names.locate(stored)
        told = names.ARCHIVE.fullmatch(locator.file)
        source, target = self.folder / locator.file, into / locator.file
        if locator.sha256 and told:
            self._check_manifest(stored, told["stem"])
        try:
            size = source.stat().st_size
        except FileNotFoundError:
            raise PluginError(f"its archive {locator.file} is gone from {self.folder}") from None
        if locator.sha256 and size != locator.size:
            raise PluginError(f"{locator.file} has {size} bytes instead of {locator.size}: it is cut off or another")
        need_room(into, max(0, size - max(0, _size(target))), words(stored.version))
        if locator.sha256 and archive.copy(source, target, pulse, size) != locator.sha256:
            target.unlink()  # what an earlier call left may have been spoiled
            if (found := archive.copy(source, target, pulse, size)) != locator.sha256:
                target.unlink()
                raise PluginError(f"{locator.file} has the SHA-256 {found}: it is damaged or was swapped")
        if not locator.sha256:
            target.unlink(missing_ok=True)
            archive.copy(source, target, pulse, size)
        return target, archive.image_of(target, pulse)

    def remove(self, file: str, pulse: Pulse) -> None:
        """Takes an archive of this cluster and its manifest away. Raises PluginError for anybody else's."""
        self.check()
        told = names.ARCHIVE.fullmatch(file)
        assert told is not None, file
        claims.clean(self.folder, self._node, pulse)
        place = self.folder / f"{told['stem']}.json"
        manifest = names.decode(_few(place)) if place.exists() else None
        gone = not place.exists() and (told["stem"] in claims.held(self.folder) or not (self.folder / file).exists())
        if gone:  # or about to be: somebody who removes it has begun
            return
        if manifest is None or manifest.cluster != self._cluster:
            raise PluginError(f"{file} in {self.folder} is not of this cluster: whoever made it removes it")
        with claims.claimed(self.folder, told["stem"], self._node):
            place.unlink(missing_ok=True)
            pulse.beat()
            (self.folder / file).unlink(missing_ok=True)

    def _adopt(self) -> None:
        if not self._cluster:
            raise PluginError("this node belongs to no cluster yet")
        if not self.check():
            with suppress(FileNotFoundError):  # another first publisher has renamed it
                self._put(names.SENTINEL, msgspec.json.encode(names.Sentinel(cluster=self._cluster)))
            self.check()

    def _stems(self, environment: str) -> Iterator[str]:
        """Names from this second on that nobody uses."""
        now = int(time.time())
        if names.ARCHIVE.fullmatch(f"{environment}-{now}.tar.zst") is None:
            raise PluginError(f"environment {environment[:80]!r} cannot be the name of a file")
        for moment in range(now, now + MOST_TRIES):
            stem = f"{environment}-{moment}"
            taken = (f"{stem}.", f"{names.PART}{stem}")
            if not any(path.name.startswith(taken) for path in self.folder.iterdir()):
                yield stem

    def _manifest(self, version: Version, package: Package, name: str, file: archive.Hashed) -> Manifest:
        return Manifest(
            cluster=self._cluster,
            environment=version.environment,
            number=version.number,
            digest=version.digest,
            archive=name,
            size=file.size,
            sha256=file.sha256,
            created=datetime.now(UTC),
            layers=[Layer(digest=layer.digest, size=layer.size) for layer in package.layers],
        )

    def _put(self, name: str, data: bytes) -> None:
        part = self.folder / f"{names.PART}{name.removeprefix('.')}"
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.folder / name)
        with suppress(OSError):  # some file systems have nothing to sync in a directory
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _manifests(self, pulse: Pulse) -> Iterator[Manifest]:
        for path in sorted(self.folder.glob("*.json")):
            pulse.beat()
            with suppress(FileNotFoundError):
                manifest = names.decode(_few(path))
                if manifest is not None and manifest.archive == f"{path.stem}.tar.zst":
                    yield manifest

    def _check_manifest(self, stored: Stored, stem: str) -> None:
        try:
            manifest = names.decode(_few(self.folder / f"{stem}.json"))
        except FileNotFoundError:
            raise PluginError(f"{stem}.tar.zst has no manifest in {self.folder}: half-written, or removed") from None
        if manifest is None:
            raise PluginError(f"{stem}.json in {self.folder} cannot be read: half-written, or damaged")
        if manifest.cluster != self._cluster:
            raise PluginError(f"{manifest.archive} is of cluster {manifest.cluster[:40]!r}: it is foreign")
        if _version(manifest) != stored.version:
            raise PluginError(f"{manifest.archive} holds {words(_version(manifest))}: it was swapped")


class _Touching(Pulse):
    """A beat that keeps the claim alive as well."""

    def __init__(self, pulse: Pulse, claim: claims.Claim) -> None:
        super().__init__()
        self._pulse = pulse
        self._claim = claim

    def beat(self) -> None:
        self._pulse.beat()
        self._claim.touch()


def _version(manifest: Manifest) -> Version:
    return Version(environment=manifest.environment, number=manifest.number, digest=manifest.digest)


def _predecessors(path: Path, environment: str, moment: int) -> Stored:
    return Stored(
        version=Version(environment=environment, number=moment, digest=""),
        locator=msgspec.json.encode(names.Locator(file=path.name)).decode(),
        size=max(0, _size(path)),
        created=datetime.fromtimestamp(moment, UTC),
        foreign=True,
    )


def _size(path: Path) -> int:
    """-1: it has gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _few(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(names.MOST)
