"""Daemons that die and callers that go away in the middle of an export or a load: nothing is left, and the next works."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kohakuriver_docker.backend import DockerBackend

from kohakuriver.errors import BackendAway, PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import NeedsLayers, Package
from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from .docker_kit import DockerKit
from .packages_kit import LARGE, Told, change, export, images, tidy, version

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def builder() -> Iterator[Dockerd]:
    """Its directory tells nothing, so that it is asked for everything."""
    with a_daemon(storage="vfs") as daemon:
        change(daemon, IMAGE, "large:1", seed=1, size=LARGE)
        yield daemon


@pytest.fixture(scope="module")
def node() -> Iterator[Dockerd]:
    with a_daemon() as daemon:
        yield daemon


def opened(tmp_path: Path, daemon: Dockerd, name: str) -> DockerKit:
    (tmp_path / name).mkdir()
    return DockerKit(tmp_path / name, daemon)


@pytest.fixture
async def there(tmp_path: Path, builder: Dockerd) -> AsyncIterator[DockerBackend]:
    async with opened(tmp_path, builder, "there").open() as backend, asyncio.timeout(300):
        yield backend


@pytest.fixture
async def here(tmp_path: Path, node: Dockerd) -> AsyncIterator[DockerBackend]:
    async with opened(tmp_path, node, "here").open() as backend, asyncio.timeout(300):
        yield backend
        for image in (await backend.packages.held()).images:
            await backend.packages.drop(image)


@pytest.fixture
async def package(there: DockerBackend) -> Package:
    return await there.packages.describe("large:1")


async def test_a_daemon_that_dies_in_an_export_is_told_and_asked_again(
    tmp_path: Path, builder: Dockerd, there: DockerBackend, package: Package
) -> None:
    into = tmp_path / "bundle"
    into.mkdir()
    digests = [layer.digest for layer in package.layers]
    with pytest.raises(BackendAway):
        await there.packages.export(package, digests, into, Told("saving", builder.kill))
    assert not list(into.iterdir())
    builder.start()
    await tidy(builder)
    await export(there, package, into)
    assert bundles.read_index(into) == package
    assert bundles.carried(into, package) == frozenset(digests)
    assert len(list(into.iterdir())) == len(digests) + 2


async def test_an_export_that_nobody_waits_for_leaves_nothing(
    tmp_path: Path, builder: Dockerd, there: DockerBackend, package: Package
) -> None:
    into = tmp_path / "bundle"
    into.mkdir()
    digests = [layer.digest for layer in package.layers]
    for note in ("saving", "packing"):
        told = Told(note)
        exporting = asyncio.ensure_future(there.packages.export(package, digests, into, told))
        told.then = exporting.cancel
        await asyncio.wait({exporting})
        assert exporting.cancelled()
        assert [path.suffix for path in into.iterdir() if path.suffix != ".zst"] == []
    await export(there, package, into)
    assert bundles.carried(into, package) == frozenset(digests)
    await tidy(builder)


async def test_a_daemon_that_dies_in_a_load_has_nothing_of_it_and_loads_again(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    before = images(node)
    with pytest.raises(BackendAway, match=package.digest):
        await here.prepare(version(package, into), Told("loading", node.kill))
    node.start()
    assert images(node) == before
    await tidy(node)
    await here.prepare(version(package, into), Told())
    assert (await here.packages.describe(package.digest)).layers == package.layers
    assert len(images(node)) == len(before) + 1


async def test_a_load_that_nobody_waits_for_leaves_nothing(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    before = images(node)
    told = Told("loading")
    waiting: list[asyncio.Future[None]] = []
    loading = asyncio.ensure_future(here.prepare(version(package, into), told))

    def leave() -> None:
        waiting.append(asyncio.ensure_future(here.prepare(version(package, into), Told())))
        loading.cancel()

    told.then = leave
    await asyncio.wait({loading})
    assert loading.cancelled()
    await waiting[0]
    assert len(images(node)) == len(before) + 1
    await tidy(node)


async def test_a_daemon_that_falls_silent_is_given_up(
    tmp_path: Path, node: Dockerd, here: DockerBackend, there: DockerBackend, package: Package
) -> None:
    into = await export(there, package, tmp_path / "bundle")
    kit = opened(tmp_path, node, "impatient")
    kit.config["pull_silence"] = 1
    async with kit.open() as backend, asyncio.timeout(300):
        with pytest.raises(PluginError, match="did nothing for 1 s"):
            await backend.prepare(version(package, into), Told("loading", node.freeze))
    node.thaw()
    await here.prepare(version(package, into), Told())
    await tidy(node)


async def test_a_daemon_says_which_layers_it_wants(here: DockerBackend, package: Package) -> None:
    loader = here._importer._loader  # no daemon at hand wants layers that it has
    with pytest.raises(NeedsLayers, match="wants every layer") as needs:
        await loader.load(package, "wanted:1", frozenset(), lambda _: iter(()), Told())
    assert needs.value.layers == {layer.digest for layer in package.layers}
