"""What `direct` moves, and what it makes of a host that has lost something."""

import asyncio
from pathlib import Path

import pytest
from kohakuriver_direct.syncer import DirectSyncer

from kohakuriver.errors import PluginError, StorageFull, Unreachable
from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Held, Version
from kohakuriver.hooks.syncer import SyncContext
from kohakuriver.net.process import run_command
from kohakuriver.testing.syncing import FakeBlobs, FakePackages, chains_below, silent

LAYERS = (b"base" * 9000, b"middle" * 20, b"top" * 50, b"base" * 9000)


@pytest.fixture
def blobs(tmp_path: Path) -> FakeBlobs:
    return FakeBlobs(tmp_path / "blobs")


@pytest.fixture
async def syncer(tmp_path: Path, blobs: FakeBlobs):
    syncer = DirectSyncer()
    await syncer.open(
        SyncContext(cluster="1", node="n", state=tmp_path, blobs=blobs, run=run_command, in_thread=asyncio.to_thread)
    )
    yield syncer
    await syncer.close()


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


async def publish(syncer, tmp_path, packages, package, number=1):
    version = Version(environment="env", number=number, digest=package.digest)
    return await syncer.publish(version, package, packages, folder(tmp_path, f"out{number}"), silent)


async def test_only_what_the_host_lacks_is_taken_apart_and_uploaded(syncer, tmp_path, blobs):
    packages = FakePackages()
    first = await publish(syncer, tmp_path, packages, packages.add(*LAYERS))
    assert set(first.blobs) == blobs.digests
    packages.exported.clear()
    changed = packages.add(*LAYERS, b"new")
    second = await publish(syncer, tmp_path, packages, changed, 2)
    assert packages.exported == [changed.layers[-1].digest]
    assert set(second.blobs) <= blobs.digests


async def test_only_what_the_node_lacks_is_downloaded(syncer, tmp_path, blobs):
    packages = FakePackages()
    package = packages.add(*LAYERS)
    stored = await publish(syncer, tmp_path, packages, package)
    into = folder(tmp_path, "in")
    image = await syncer.ensure(stored, Held(chains=chains_below(package, 2)), into, silent)
    assert image.path == into
    assert bundles.read_index(into) == package
    assert bundles.carried(into, package) == {package.layers[0].digest, package.layers[2].digest}
    await syncer.ensure(stored, Held(), into, silent)
    assert bundles.carried(into, package) == {layer.digest for layer in package.layers}


async def test_a_content_that_is_gone_from_the_host_is_named_with_the_version(syncer, tmp_path, blobs):
    packages = FakePackages()
    package = packages.add(*LAYERS)
    stored = await publish(syncer, tmp_path, packages, package)
    bundles.blob(blobs.folder, package.layers[1].digest).unlink()
    with pytest.raises(PluginError, match=f"env:1 .*{package.layers[1].digest}"):
        await syncer.ensure(stored, Held(), folder(tmp_path, "in"), silent)


async def test_an_index_of_another_image_is_refused(syncer, tmp_path, blobs):
    packages = FakePackages()
    one = await publish(syncer, tmp_path, packages, packages.add(*LAYERS))
    two = await publish(syncer, tmp_path, packages, packages.add(*LAYERS, b"more"), 2)
    mixed = type(one)(version=one.version, locator=two.locator)
    with pytest.raises(PluginError, match="env:1"):
        await syncer.ensure(mixed, Held(), folder(tmp_path, "in"), silent)


async def test_a_full_disk_is_seen_before_anything_is_downloaded(syncer, tmp_path, blobs, monkeypatch):
    packages = FakePackages()
    stored = await publish(syncer, tmp_path, packages, packages.add(*LAYERS))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(StorageFull, match="env:1"):
        await syncer.ensure(stored, Held(), folder(tmp_path, "in"), silent)
    assert blobs.sent < 2000


async def test_a_cut_off_layer_goes_on_where_it_was(syncer, tmp_path, blobs):
    packages = FakePackages()
    noise = b"".join(str(number * number).encode() for number in range(30_000))
    package = packages.add(noise)
    stored = await publish(syncer, tmp_path, packages, package)
    blobs.cut_after = 40_000
    into = folder(tmp_path, "in")
    with pytest.raises(Unreachable):
        await syncer.ensure(stored, Held(), into, silent)
    await syncer.ensure(stored, Held(), into, silent)
    assert blobs.sent == sum(path.stat().st_size for path in blobs.folder.iterdir())


async def test_progress_counts_bytes_of_all_layers(syncer, tmp_path):
    packages = FakePackages()
    package = packages.add(*LAYERS)
    stored = await publish(syncer, tmp_path, packages, package)
    told = []
    await syncer.ensure(stored, Held(), folder(tmp_path, "in"), lambda *words: told.append(words))
    whole = sum(len(layer) for layer in set(LAYERS))
    assert told[-1] == ("fetching env:1", whole, whole)


async def test_settings_that_are_none_are_refused(tmp_path, blobs):
    ctx = SyncContext(
        cluster="1", node="n", state=tmp_path, config={"at_onse": 3}, blobs=blobs, run=run_command,
        in_thread=asyncio.to_thread,
    )  # fmt: skip
    with pytest.raises(PluginError, match=r"plugins\.direct.*at_onse"):
        await DirectSyncer().open(ctx)
