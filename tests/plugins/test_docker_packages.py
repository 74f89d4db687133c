"""Images travel from one daemon to another as bundles of the layers that the other lacks."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from kohakuriver_docker.backend import DockerBackend

from kohakuriver.errors import NotFound, PluginError, StorageFull
from kohakuriver.hooks import bundles
from kohakuriver.hooks.capabilities import capabilities
from kohakuriver.hooks.packages import NeedsLayers, Package
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from .docker_kit import DockerKit, run
from .packages_kit import LARGE, Told, change, export, images, tidy, version

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def builder() -> Iterator[Dockerd]:
    with a_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def node(builder: Dockerd) -> Iterator[Dockerd]:
    """Another daemon, of another storage driver, of which the directory tells nothing; with the builder's base image."""
    with a_daemon(storage="vfs") as daemon:
        daemon.docker("rmi", IMAGE)
        daemon.docker("load", input=saved(builder, IMAGE))
        yield daemon


def saved(daemon: Dockerd, name: str) -> bytes:
    folder = daemon.directory / "saved.tar"
    daemon.docker("save", "-o", str(folder), name)
    data = folder.read_bytes()
    folder.unlink()
    return data


@pytest.fixture
async def there(tmp_path: Path, builder: Dockerd) -> AsyncIterator[DockerBackend]:
    folder = tmp_path / "there"
    folder.mkdir()
    async with DockerKit(folder, builder).open() as opened, asyncio.timeout(180):
        yield opened


@pytest.fixture
def kit(tmp_path: Path, node: Dockerd) -> DockerKit:
    folder = tmp_path / "here"
    folder.mkdir()
    return DockerKit(folder, node)


@pytest.fixture
async def here(kit: DockerKit) -> AsyncIterator[DockerBackend]:
    """The node; every image of ours is gone from it afterwards."""
    async with kit.open() as opened, asyncio.timeout(180):
        yield opened
        for _, handle in await opened.found():
            await opened.remove(handle)
        for image in (await opened.packages.held()).images:
            await opened.packages.drop(image)


@pytest.fixture
async def package(tmp_path: Path, builder: Dockerd, there: DockerBackend) -> Package:
    """Of an image with one layer on top of what the node has."""
    change(builder, IMAGE, "changed:1", seed=1)
    return await there.packages.describe("changed:1")


async def test_it_says_what_it_can(here: DockerBackend) -> None:
    assert "CanPackage" in capabilities(here)


async def test_a_package_is_what_the_engine_says(builder: Dockerd, there: DockerBackend, package: Package) -> None:
    inspected = json.loads(builder.docker("inspect", "changed:1"))[0]
    assert package.digest == inspected["Id"]
    assert [layer.digest for layer in package.layers] == inspected["RootFS"]["Layers"]
    assert await there.packages.describe(package.digest) == package
    with pytest.raises(NotFound, match="nobody:1"):
        await there.packages.describe("nobody:1")


async def test_a_change_moves_one_layer_and_is_the_same_image(
    tmp_path: Path, here: DockerBackend, there: DockerBackend, kit: DockerKit, package: Package
) -> None:
    lacks = (await here.packages.held()).lacks(package)
    assert lacks == package.layers[1:]
    into = await export(there, package, tmp_path / "bundle", tuple(layer.digest for layer in lacks))
    assert bundles.carried(into, package) == {lacks[0].digest}
    assert bundles.verify(bundles.blob(into, lacks[0].digest), lacks[0].digest, lacks[0].size) == lacks[0].size
    told = Told()
    await here.prepare(version(package, into), told)
    assert told.known
    found = (await here.packages.held()).images[package.digest]
    assert (found.environment, found.used) == (("my-env", 1), False)
    assert (await here.packages.held()).lacks(package) == ()
    shutil.rmtree(into)
    job = kit.job(("cat", "/deep/\N{SNOWMAN}"), image=Image(kind="oci", digest=package.digest))
    ended, output = await run(here, job)
    assert (ended.code, output["stdout"]) == (0, b"x" * 700)
    assert (await here.packages.held()).images[package.digest].used
    assert not await here.packages.drop(package.digest)


async def test_what_is_there_already_needs_no_file(
    tmp_path: Path, here: DockerBackend, there: DockerBackend, node: Dockerd, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    await here.prepare(version(package, into), Told())
    shutil.rmtree(into)
    before = images(node)
    await here.prepare(version(package, into), Told())
    assert images(node) == before
    await here.prepare(version(package, into, number=2), Told())
    assert (await here.packages.held()).images[package.digest].environment == ("my-env", 2)


async def test_many_who_want_the_same_load_it_once(
    tmp_path: Path, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    image = version(package, await export(there, package, tmp_path / "bundle"))
    told = [Told() for _ in range(20)]
    await asyncio.gather(*(here.prepare(image, one) for one in told))
    assert sum(bool(one.known) for one in told) == 1
    assert sum(one.notes == [f"{package.digest} is being fetched for another task"] for one in told) == 19


async def test_a_daemon_whose_directory_tells_nothing_is_asked_for_the_whole(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, kit: DockerKit
) -> None:
    change(node, IMAGE, "other:1", seed=2)
    package = await here.packages.describe("other:1")
    assert package.digest == json.loads(node.docker("inspect", "other:1"))[0]["Id"]
    into = await export(here, package, tmp_path / "bundle")
    for layer in package.layers:
        bundles.verify(bundles.blob(into, layer.digest), layer.digest, layer.size)
    assert not list(kit.state.rglob("*.part"))
    await there.prepare(version(package, into, number=7), Told())
    assert (await there.packages.describe(package.digest)) == package
    node.docker("rmi", "other:1")
    assert await there.packages.drop(package.digest)


async def test_an_export_that_was_cut_off_goes_on_with_what_is_whole(
    tmp_path: Path, builder: Dockerd, there: DockerBackend
) -> None:
    change(builder, IMAGE, "large:1", seed=3, size=LARGE)
    change(builder, "large:1", "large:2", seed=4, size=LARGE)
    package = await there.packages.describe("large:2")
    into = tmp_path / "bundle"
    into.mkdir()
    digests = [layer.digest for layer in package.layers]
    for note in ("packing", "packing"):
        exporting = asyncio.ensure_future(there.packages.export(package, digests, into, Told()))
        told = Told(note, exporting.cancel)
        exporting.cancel()
        await asyncio.wait({exporting})
        exporting = asyncio.ensure_future(there.packages.export(package, digests, into, told))
        told.then = exporting.cancel
        await asyncio.wait({exporting})
        assert exporting.cancelled()
        assert not list(into.glob("*.part"))
        assert not (into / bundles.INDEX).exists()
    spoiled = bundles.blob(into, digests[0])
    spoiled.write_bytes(b"something else")
    (into / f"{'0' * 64}.1.part").write_bytes(b"of a process that was killed")
    await export(there, package, into)
    assert bundles.read_index(into) == package
    for layer in package.layers:
        bundles.verify(bundles.blob(into, layer.digest), layer.digest, layer.size)
    assert len(list(into.iterdir())) == len(package.layers) + 2


async def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, there: DockerBackend, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    into = tmp_path / "bundle"
    into.mkdir()
    with pytest.raises(StorageFull, match="10 free"):
        await there.packages.export(package, [layer.digest for layer in package.layers], into, Told())
    assert not list(into.iterdir())
    with pytest.raises(PluginError, match="has no layer sha256:00"):
        await there.packages.export(package, [f"sha256:{'0' * 64}"], into, Told())


def _other_content(into: Path, package: Package) -> None:
    path = bundles.blob(into, package.layers[1].digest)
    path.write_bytes(bundles.blob(into, package.layers[0].digest).read_bytes())


def _cut_off(into: Path, package: Package) -> None:
    path = bundles.blob(into, package.layers[1].digest)
    path.write_bytes(path.read_bytes()[:-100])


def _no_zstd(into: Path, package: Package) -> None:
    bundles.blob(into, package.layers[1].digest).write_bytes(b"#!/bin/sh\n")


def _other_config(into: Path, _: Package) -> None:
    (into / bundles.CONFIG).write_bytes(b"{}")


def _no_index(into: Path, _: Package) -> None:
    (into / bundles.INDEX).unlink()


Spoil = Callable[[Path, Package], None]
SPOILED: dict[Spoil, str] = {
    _other_content: "holds more than|has become",
    _cut_off: "damaged|has become",
    _no_zstd: "damaged",
    _other_config: "its configuration has the SHA-256",
    _no_index: "is no bundle",
}


@pytest.mark.parametrize("spoil", SPOILED)
async def test_a_spoiled_bundle_is_refused_and_leaves_nothing(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, package: Package, spoil: Spoil
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    whole = shutil.copytree(into, tmp_path / "whole")
    spoil(into, package)
    before = images(node)
    with pytest.raises(PluginError, match=SPOILED[spoil]):
        await here.prepare(version(package, into), Told())
    assert images(node) == before
    await tidy(node)
    await here.prepare(version(package, whole), Told())
    assert package.digest in (await here.packages.held()).images


async def test_another_image_than_the_one_that_was_meant_is_refused(
    tmp_path: Path, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    image = Image(kind="oci", digest=f"sha256:{'0' * 64}", path=into, environment="my-env", number=1)
    with pytest.raises(PluginError, match=f"sha256:000.* was wanted, and the file holds {package.digest}"):
        await here.prepare(image, Told())
    assert package.digest not in (await here.packages.held()).images


async def test_layers_that_were_not_fetched_are_named(
    tmp_path: Path, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle", ())
    with pytest.raises(NeedsLayers) as needs:
        await here.prepare(version(package, into), Told())
    assert needs.value.layers == {package.layers[1].digest}
    await export(there, package, into, tuple(needs.value.layers))
    await here.prepare(version(package, into), Told())


async def test_only_what_is_ours_and_unused_is_dropped(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    (foreign,) = (await here.packages.held()).images
    assert not await here.packages.drop(foreign)
    await here.prepare(version(package, await export(there, package, tmp_path / "bundle")), Told())
    node.docker("tag", package.digest, "somebody/elses:1")
    assert not await here.packages.drop(package.digest)
    assert (await here.packages.held()).images[package.digest].names == ("somebody/elses:1",)
    node.docker("rmi", "somebody/elses:1")
    await here.prepare(version(package, tmp_path / "bundle"), Told())
    container = node.docker("create", package.digest, "true").strip()
    assert not await here.packages.drop(package.digest)
    node.docker("rm", container)
    assert await here.packages.drop(package.digest)
    assert await here.packages.drop(package.digest)
    assert list((await here.packages.held()).images) == [foreign]
