"""What `nfs` makes of shares that are not there, hang, are full, or hold what others left."""

import errno
import gzip
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import zstandard
from kohakuriver_nfs import archive, claims, faults, names
from kohakuriver_nfs.patience import Abandoned, Pulse

from kohakuriver.errors import PluginError, StorageFull, Unreachable
from kohakuriver.hooks.packages import Held, Stored, Version
from kohakuriver.testing.syncing import silent

from .nfs_kit import NfsKit, archive_of, write_archive

HOUR = 3600


@pytest.fixture
def kit(tmp_path: Path) -> NfsKit:
    return NfsKit(tmp_path)


async def publish(kit: NfsKit, syncer, package, number=1) -> Stored:
    version = Version(environment="env", number=number, digest=package.digest)
    return await syncer.publish(version, package, kit.packages, kit.folder(), silent)


async def test_an_empty_mount_point_is_not_taken_for_the_share(kit):
    package = kit.packages.add(b"layer")
    async with kit.open() as syncer:
        stored = await publish(kit, syncer, package)
        (kit.share / ".kohakuriver").rename(kit.directory / "unmounted")
        probe = await syncer.probe()
        assert not probe.usable
        assert f"touch {kit.share}/.kohakuriver" in probe.problems[0]
        before = sorted(kit.share.iterdir())
        for call in (
            publish(kit, syncer, kit.packages.add(b"other"), 2),
            syncer.ensure(stored, Held(), kit.folder(), silent),
            syncer.list(),
            syncer.remove(stored),
        ):
            with pytest.raises(PluginError, match="not mounted"):
                await call
    assert sorted(kit.share.iterdir()) == before


async def test_the_share_of_another_cluster_is_left_alone(kit):
    (kit.share / ".kohakuriver").write_text('{"cluster": "4711"}')
    async with kit.open() as syncer:
        with pytest.raises(PluginError, match="belongs to cluster '4711'"):
            await publish(kit, syncer, kit.packages.add(b"layer"))
        assert "4711" in (await syncer.probe()).problems[0]
    assert [path.name for path in kit.share.iterdir()] == [".kohakuriver"]


@pytest.mark.parametrize(
    ("config", "words"), [({"path": ""}, "no directory is set"), ({"enabled": False}, "switched off")]
)
async def test_without_a_directory_it_says_what_to_set(tmp_path, config, words):
    kit = NfsKit(tmp_path, **config)
    async with kit.open() as syncer:
        probe = await syncer.probe()
        assert (probe.usable, words in probe.problems[0]) == (False, True)
        with pytest.raises(PluginError, match="no directory is set"):
            await syncer.list()


@pytest.mark.parametrize("config", [{"path": "relative"}, {"pathh": "/x"}, {"patience": -1}])
async def test_settings_that_are_none_are_refused(tmp_path, config):
    with pytest.raises(PluginError, match=r"plugins\.nfs"):
        async with NfsKit(tmp_path, **config).open():
            pass


async def test_a_share_that_hangs_holds_up_nobody_for_ever(tmp_path):
    kit = NfsKit(tmp_path, patience=0.05)
    sentinel = kit.share / ".kohakuriver"
    sentinel.unlink()
    os.mkfifo(sentinel)  # whoever opens it to read waits for a writer
    async with kit.open() as syncer:
        for _ in range(10):
            assert "does not answer" in (await syncer.probe()).problems[0]
        hanging = [thread for thread in threading.enumerate() if thread.name == "kohakuriver-nfs"]
        assert 0 < len(hanging) <= 8
        with pytest.raises(Unreachable, match="does not answer"):
            await syncer.list()
    with sentinel.open("wb"):  # it answers: all of them go on, and end
        pass
    for thread in hanging:
        thread.join(60)
    assert not any(thread.is_alive() for thread in hanging)


@pytest.mark.root
async def test_a_full_share_is_told_before_anything_is_written(tmp_path):
    kit = NfsKit(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", kit.share], check=True, timeout=60)
    try:
        (kit.share / ".kohakuriver").touch()
        async with kit.open() as syncer:
            with pytest.raises(StorageFull, match="env:1"):
                await publish(kit, syncer, kit.packages.add(b"layer"))
            assert await kit.leftovers([]) == []
            subprocess.run(["mount", "-o", "remount,ro", kit.share], check=True, timeout=60)
            with pytest.raises((PluginError, StorageFull)):
                await publish(kit, syncer, kit.packages.add(b"layer"))
    finally:
        subprocess.run(["umount", kit.share], check=True, timeout=60)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StorageFull, "the disk is full"),
        (errno.EDQUOT, StorageFull, "the disk is full"),
        (errno.EROFS, PluginError, "read-only"),
        (errno.EACCES, PluginError, "root_squash"),
        (errno.ESTALE, Unreachable, "file server"),
        (errno.EIO, Unreachable, "file server"),
        (errno.ENAMETOOLONG, PluginError, "file name too long"),
    ],
)
def test_errors_of_a_file_system_are_told_in_words(number, kind, words):
    error = faults.explain(OSError(number, os.strerror(number)), "publishing env:1")
    assert type(error) is kind
    assert error.message.startswith("publishing env:1: ")
    assert words in error.message


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.zst"])
async def test_the_predecessors_archives_are_shown_and_can_be_read(kit, ending):
    digest = write_archive(kit.directory / "made.tar.zst", kit.folder(), b"layer" * 1000)
    packed = (kit.directory / "made.tar.zst").read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    data = {"tar": plain, "tar.gz": gzip.compress(plain), "tar.zst": packed}[ending]
    place = kit.share / f"old-env-1700000000.{ending}"
    place.write_bytes(data)
    async with kit.open() as syncer:
        (found,) = await syncer.list()
        assert (found.version.environment, found.version.number, found.foreign) == ("old-env", 1700000000, True)
        image = await syncer.ensure(found, Held(), kit.folder(), silent)
        assert image.digest == digest
        assert image.path is not None
        assert image.path.read_bytes() == data
        for wrong in (data[: len(data) // 2], b"", b"no archive at all" * 1000):
            place.write_bytes(wrong)
            with pytest.raises(PluginError, match="old-env:1700000000"):
                await syncer.ensure(found, Held(), kit.folder(), silent)


async def test_a_spoiled_archive_is_written_anew_by_the_next_publish(kit):
    package = kit.packages.add(b"layer")
    async with kit.open() as syncer:
        stored = await publish(kit, syncer, package)
        (kit.share / archive_of(stored)).write_bytes(b"spoiled")
        again = await publish(kit, syncer, package)
        await kit.check(await syncer.ensure(again, Held(), kit.folder(), silent), package, Held())
    assert await kit.leftovers([again]) == []


@pytest.mark.parametrize(("age", "stays"), [(0, True), (HOUR, False)])
async def test_what_another_node_left_goes_when_nobody_touched_it_for_long(kit, age, stays):
    left = ("env-1700000000.tar.zst", ".part-env-1700000000~other~abc123.claim")
    for name in left:
        (kit.share / name).touch()
        os.utime(kit.share / name, (time.time() - age,) * 2)
    async with kit.open() as syncer:
        assert await syncer.list() == []
        stored = await publish(kit, syncer, kit.packages.add(b"layer"))
        assert await syncer.list() == [stored]
    assert set(await kit.leftovers([stored])) == (set(left) if stays else set())


async def test_a_publisher_that_was_taken_for_dead_publishes_nothing(kit):
    def clean_as_another_node_would() -> None:
        (claim,) = kit.share.glob("*.claim")
        told = names.CLAIM.fullmatch(claim.name)
        claims.undo(kit.share, told["stem"])
        claim.unlink()

    package = kit.packages.add(b"layer")
    into = kit.folder()
    async with kit.open() as syncer:
        await publish(kit, syncer, kit.packages.add(b"first"), 1)
        with kit.steps.watching(kit.share):
            kit.steps.live()
            await publish(kit, syncer, kit.packages.add(b"to count the steps"), 3)
            last = max(at for at, step in enumerate(kit.steps.taken) if step.startswith("os.rename"))
            kit.steps.interrupt(last, clean_as_another_node_would)
            version = Version(environment="env", number=2, digest=package.digest)
            with pytest.raises(PluginError, match="env:2"):
                await syncer.publish(version, package, kit.packages, into, silent)
        assert [one.version.number for one in await syncer.list()] == [1, 3]
        assert await kit.leftovers(await syncer.list()) == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kohakuriver.hooks.packages import Version
from kohakuriver.testing.syncing import silent
from tests.plugins.nfs_kit import NfsKit

def kill(event, args):
    if event == "os.rename" and str(args[1]).endswith(sys.argv[3]) and "/share/" in str(args[1]):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    kit = NfsKit.__new__(NfsKit)
    (Path(sys.argv[2]) / "share").rename(Path(sys.argv[2]) / "kept")
    kit.__init__(Path(sys.argv[2]))
    kit.share.joinpath(".kohakuriver").unlink()
    kit.share.rmdir()
    (Path(sys.argv[2]) / "kept").rename(kit.share)
    package = kit.packages.add(b"of the killed")
    async with kit.open() as syncer:
        sys.addaudithook(kill)
        version = Version(environment="env", number=2, digest=package.digest)
        await syncer.publish(version, package, kit.packages, kit.folder("killed"), silent)

asyncio.run(main())
"""


@pytest.mark.parametrize("step", [".tar.zst", ".json"])
async def test_a_builder_killed_outright_leaves_nothing_that_stays(kit, step):
    async with kit.open() as syncer:
        first = await publish(kit, syncer, kit.packages.add(b"first"))
        done = subprocess.run(
            [sys.executable, "-c", KILLED, Path(__file__).parents[2], kit.directory, step],
            timeout=120,
            capture_output=True,
            check=False,
        )
        assert done.returncode == -9, done.stderr.decode()
        assert len(await kit.leftovers([first])) >= 2
        assert await syncer.list() == [first]
        third = await publish(kit, syncer, kit.packages.add(b"third"), 3)
    assert await kit.leftovers([first, third]) == []


def test_who_was_given_up_while_the_share_hung_writes_into_no_copy(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"late")
    target.write_bytes(b"")
    pulse = Pulse()
    pulse.give_up()
    with pytest.raises(Abandoned):
        archive.copy(source, target, pulse, 4)
    assert target.read_bytes() == b""


def test_an_archive_of_nothing_but_small_files_is_no_image(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_KEPT", 10_000)
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(5):
            entry = tarfile.TarInfo(f"{number}.json")
            entry.size = 4000
            tar.addfile(entry, io.BytesIO(bytes(4000)))
    with pytest.raises(PluginError, match="small files have more than 10000 bytes"):
        archive.image_of(path, Pulse())
