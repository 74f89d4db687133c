"""A shared directory for tests of the `nfs` syncer, and the ways in which people spoil archives."""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from kohakuriver_nfs import archive
from kohakuriver_nfs.patience import Pulse
from kohakuriver_nfs.syncer import NfsSyncer

from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Stored, Version
from kohakuriver.testing.contracts.syncer_kit import SyncerKit
from kohakuriver.testing.syncing import make_image


def archive_of(stored: Stored) -> str:
    return json.loads(stored.locator)["file"]


class NfsKit(SyncerKit):
    """All nodes see the same folder; the operator has touched the sentinel."""

    def __init__(self, directory: Path, **config: object) -> None:
        super().__init__(directory)
        self.share = directory / "share"
        self.share.mkdir()
        (self.share / ".kohakuriver").touch()
        self.config = {"path": str(self.share), **config}

    @property
    def watched(self) -> Collection[Path]:
        return (self.share,)

    @asynccontextmanager
    async def open(self, node: str = "builder") -> AsyncIterator[NfsSyncer]:
        syncer = NfsSyncer()
        await syncer.open(self.context(node, self.config))
        try:
            yield syncer
        finally:
            await syncer.close()

    async def leftovers(self, known: Collection[Stored]) -> Collection[str]:
        files = {archive_of(stored) for stored in known}
        files |= {file.replace(".tar.zst", ".json") for file in files} | {".kohakuriver"}
        return sorted({path.name for path in self.share.iterdir()} - files)

    def spoilings(self):
        def path_of(stored: Stored) -> Path:
            return self.share / archive_of(stored)

        async def truncate(stored: Stored) -> None:
            path_of(stored).write_bytes(path_of(stored).read_bytes()[:-7])

        async def flip(stored: Stored) -> None:
            data = bytearray(path_of(stored).read_bytes())
            data[len(data) // 2] ^= 0xFF
            path_of(stored).write_bytes(data)

        async def lose(stored: Stored) -> None:
            path_of(stored).unlink()

        async def lose_manifest(stored: Stored) -> None:
            self.manifest(stored).unlink()

        async def cut_manifest(stored: Stored) -> None:
            self.manifest(stored).write_bytes(self.manifest(stored).read_bytes()[:40])

        async def make_foreign(stored: Stored) -> None:
            self.rewrite(stored, cluster="another")

        async def swap(stored: Stored) -> None:
            """For an archive that is in order, of an image of somebody else's."""
            write_archive(path_of(stored), self.folder(), b"evil")
            data = path_of(stored).read_bytes()
            self.rewrite(stored, size=len(data), sha256=archive.sha256(path_of(stored), Pulse()))

        return {
            "truncated": truncate,
            "flipped": flip,
            "gone": lose,
            "half-written": lose_manifest,
            "half a manifest": cut_manifest,
            "foreign": make_foreign,
            "swapped": swap,
        }

    async def foreign(self) -> Stored:
        write_archive(self.share / "old-env-1700000000.tar.zst", self.folder(), b"predecessor")
        async with self.open() as syncer:
            (found,) = [one for one in await syncer.list() if one.foreign]
        assert found.version == Version(environment="old-env", number=1700000000, digest="")
        return found

    def manifest(self, stored: Stored) -> Path:
        return self.share / archive_of(stored).replace(".tar.zst", ".json")

    def rewrite(self, stored: Stored, **fields: object) -> None:
        path = self.manifest(stored)
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def write_archive(path: Path, folder: Path, *layers: bytes) -> str:
    """An archive of an image with these layers; returns the image's digest."""
    package, contents = make_image(*layers)
    for digest, data in contents.items():
        bundles.pack(folder, digest, [data])
    with path.open("wb") as file:
        archive.write(folder, package, archive.Hashed(file, Pulse()))
    return package.digest
