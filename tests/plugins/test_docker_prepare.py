"""Images by file and by reference: archives of `docker save`, pull policies, and digests that must be what they say."""

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from kohakuriver_docker.backend import DockerBackend

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon, image_tree

from . import oci_registry, registry
from .docker_kit import DockerKit
from .packages_kit import Told, change, images, tidy

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with a_daemon() as daemon:
        yield daemon


@pytest.fixture
async def backend(tmp_path: Path, daemon: Dockerd) -> AsyncIterator[DockerBackend]:
    """Every image but the first is gone from the daemon afterwards."""
    folder = tmp_path / "node"
    folder.mkdir()
    async with DockerKit(folder, daemon, pull_silence=60).open() as backend, asyncio.timeout(180):
        yield backend
    names = daemon.docker("images", "--format", "{{.Repository}}:{{.Tag}}@{{.ID}}").split()
    for name in names:
        if not name.startswith(IMAGE):
            daemon.docker("rmi", "-f", name.partition("@")[2])


@pytest.fixture
def saved(tmp_path: Path, daemon: Dockerd) -> tuple[str, bytes]:
    """An image that the daemon has no more: its digest, and the archive that it made of it."""
    change(daemon, IMAGE, "somebody/elses:1", seed=1)
    digest = json.loads(daemon.docker("inspect", "somebody/elses:1"))[0]["Id"]
    path = tmp_path / "saved"
    daemon.docker("save", "-o", str(path), "somebody/elses:1")
    daemon.docker("rmi", "somebody/elses:1")
    return digest, path.read_bytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
async def test_an_archive_is_loaded_under_our_name_alone(
    tmp_path: Path, daemon: Dockerd, backend: DockerBackend, saved: tuple[str, bytes], pack: Callable[[bytes], bytes]
) -> None:
    digest, data = saved
    path = tmp_path / "my-env-1700000000.tar"
    path.write_bytes(pack(data))
    for _ in range(2):
        await backend.prepare(Image(kind="oci", digest=digest, path=path, environment="my-env", number=4), Told())
    found = (await backend.packages.held()).images[digest]
    assert found.environment == ("my-env", 4)
    assert [name for name in found.names if not name.endswith("/my-env:4")] == []
    await tidy(daemon)


async def test_an_archive_of_nobody_knows_what_gets_a_name_of_ours_too(
    tmp_path: Path, backend: DockerBackend, saved: tuple[str, bytes]
) -> None:
    digest, data = saved
    path = tmp_path / "some.tar"
    path.write_bytes(data)
    await backend.prepare(Image(kind="oci", path=path), Told())
    found = (await backend.packages.held()).images[digest]
    assert (found.environment, len(found.names)) == (None, 1)
    assert await backend.packages.drop(digest)


def cut_off(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_a_device(data: bytes) -> bytes:
    tar = io.BytesIO(data)
    with tarfile.open(fileobj=tar, mode="a") as file:
        entry = tarfile.TarInfo("blobs")
        entry.type = tarfile.BLKTYPE
        file.addfile(entry)
    return tar.getvalue()


def with_another_layer(data: bytes) -> bytes:
    return data.replace(b"x" * 700, b"y" * 700)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_off, "is cut off after"),
        (with_a_device, "'blobs' is a block device"),
        (with_another_layer, "has the SHA-256"),
        (lambda _: b"#!/bin/sh\n" * 100, "it is no tar"),
    ],
)
async def test_nothing_of_a_spoiled_archive_reaches_the_daemon(
    tmp_path: Path,
    daemon: Dockerd,
    backend: DockerBackend,
    saved: tuple[str, bytes],
    spoil: Callable[[bytes], bytes],
    words: str,
) -> None:
    digest, data = saved
    path = tmp_path / "spoiled.tar"
    path.write_bytes(spoil(data))
    before = images(daemon)
    told = Told()
    with pytest.raises(PluginError, match=f"archive spoiled.tar: .*{words}"):
        await backend.prepare(Image(kind="oci", digest=digest, path=path, environment="my-env", number=1), told)
    assert images(daemon) == before
    assert "loading" not in told.notes


async def test_an_archive_of_another_image_is_refused(
    tmp_path: Path, daemon: Dockerd, backend: DockerBackend, saved: tuple[str, bytes]
) -> None:
    path = tmp_path / "swapped.tar"
    path.write_bytes(saved[1])
    before = images(daemon)
    with pytest.raises(PluginError, match=f"was wanted, and the file holds {saved[0]}"):
        await backend.prepare(Image(kind="oci", digest=f"sha256:{'0' * 64}", path=path), Told())
    assert images(daemon) == before


@pytest.fixture
def pulled(tmp_path: Path, daemon: Dockerd) -> Iterator[tuple[str, Path]]:
    """A reference to an image in a registry, and the registry's folder."""
    folder = tmp_path / "registry"
    folder.mkdir()
    registry.write_image(folder, image_tree(str(tmp_path)))
    with registry.serving(folder, daemon.inside) as port:
        yield f"127.0.0.1:{port}/busybox:1", folder


def digest_of(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text())["config"]["digest"])


async def test_a_reference_must_lead_to_the_image_that_was_meant(
    daemon: Dockerd, backend: DockerBackend, pulled: tuple[str, Path]
) -> None:
    name, folder = pulled
    meant = Image(kind="oci", digest=digest_of(folder), reference=name, environment="my-env", number=2)
    registry.write_image(folder, image_tree("another"))
    with pytest.raises(PluginError, match=f"and {meant.digest} was wanted"):
        await backend.prepare(meant, Told())
    held = (await backend.packages.held()).images.values()
    assert [image.environment for image in held if image.environment] == []
    meant = Image(kind="oci", digest=digest_of(folder), reference=name, environment="my-env", number=2)
    await backend.prepare(meant, Told())
    assert (await backend.packages.held()).images[meant.digest].environment == ("my-env", 2)


async def test_a_policy_says_when_a_reference_is_fetched(
    daemon: Dockerd, backend: DockerBackend, pulled: tuple[str, Path]
) -> None:
    name, folder = pulled
    with pytest.raises(PluginError, match="is not on this node, and is not to be fetched"):
        await backend.prepare(Image(kind="oci", reference=name, pull="never"), Told())
    await backend.prepare(Image(kind="oci", reference=name), Told())
    first = digest_of(folder)
    registry.write_image(folder, image_tree("newer"))
    for policy in ("never", "missing"):
        await backend.prepare(Image(kind="oci", reference=name, pull=policy), Told())
        assert json.loads(daemon.docker("inspect", name))[0]["Id"] == first
    await backend.prepare(Image(kind="oci", reference=name, pull="always"), Told())
    assert json.loads(daemon.docker("inspect", name))[0]["Id"] == digest_of(folder) != first


async def test_what_is_nowhere_is_told(backend: DockerBackend) -> None:
    with pytest.raises(PluginError, match="is not on this node"):
        await backend.prepare(Image(kind="oci", digest=f"sha256:{'0' * 64}"), Told())


@pytest.mark.skipif(oci_registry.why_not() is not None, reason=oci_registry.why_not() or "")
async def test_what_was_pushed_is_fetched_again_by_its_digest(
    tmp_path: Path, daemon: Dockerd, backend: DockerBackend
) -> None:
    change(daemon, IMAGE, "mine:1", seed=5)
    package = await backend.packages.describe("mine:1")
    before = images(daemon)
    with oci_registry.a_registry(tmp_path / "oci", inside=daemon.inside) as store:
        told = Told()
        reference = await backend.packages.push(package.digest, f"{store.host}/envs/mine:1", None, told)
        assert reference.startswith(f"{store.host}/envs/mine@sha256:")
        assert images(daemon) == before
        again = await backend.packages.push(package.digest, f"{store.host}/envs/mine:1", None, Told())
        assert again == reference
        daemon.docker("rmi", "mine:1")
        assert package.digest not in (await backend.packages.held()).images
        image = Image(kind="oci", digest=package.digest, reference=reference, environment="my-env", number=6)
        await backend.prepare(image, Told())
        assert (await backend.packages.held()).images[package.digest].environment == ("my-env", 6)
        assert await backend.packages.drop(package.digest)
        assert package.digest not in (await backend.packages.held()).images
    change(daemon, IMAGE, "mine:2", seed=6)
    digest = (await backend.packages.describe("mine:2")).digest
    with pytest.raises(PluginError, match="was not pushed"):
        await backend.packages.push(digest, f"{store.host}/envs/mine:2", None, Told())
    assert [name for name in images(daemon) if store.host in name] == []
