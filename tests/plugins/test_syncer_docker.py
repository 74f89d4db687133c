"""Each syncer with a real engine: what Docker gives to publish, it takes back when a version is fetched."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from kohakuriver_direct.syncer import DirectSyncer
from kohakuriver_nfs.syncer import NfsSyncer
from kohakuriver_registry.syncer import RegistrySyncer

from kohakuriver.hooks.packages import Held, Version
from kohakuriver.hooks.syncer import SyncContext, Syncer
from kohakuriver.net.process import run_command
from kohakuriver.testing.dockerd import IMAGE, Dockerd
from kohakuriver.testing.syncing import FakeBlobs, silent

from .docker_kit import DockerKit
from .oci_registry import a_registry, why_not
from .packages_kit import change

pytestmark = pytest.mark.docker

SEEDS = itertools.count(7100)


@asynccontextmanager
async def opened(kind: type[Syncer], folder: Path, **config: object) -> AsyncIterator[Syncer]:
    syncer = kind()
    state = folder / "syncer"
    state.mkdir(mode=0o700)
    await syncer.open(
        SyncContext(
            cluster="7100", node="n", state=state, config=config, blobs=FakeBlobs(folder / "blobs"), run=run_command,
            in_thread=asyncio.to_thread,
        )
    )  # fmt: skip
    try:
        yield syncer
    finally:
        await syncer.close()


async def there_and_back(syncer: Syncer, dockerd: Dockerd, folder: Path) -> None:
    """An image is published, goes from the daemon, and is fetched and loaded again: whole, and with its lowest layer."""
    digest = change(dockerd, IMAGE, "kr-syncer-test:1", next(SEEDS))
    version = Version(environment="my-env", number=1, digest=digest)
    for name in ("out", "in"):
        (folder / name).mkdir()
    kit = DockerKit(folder, dockerd)
    async with kit.open() as backend, asyncio.timeout(180):
        package = await backend.packages.describe(digest)
        stored = await syncer.publish(version, package, backend.packages, folder / "out", silent)
        dockerd.docker("rmi", "--force", digest)
        assert digest not in dockerd.docker("images", "-q", "--no-trunc")
        held = await backend.packages.held()
        assert digest not in held.images
        image = await syncer.ensure(stored, Held(chains=held.chains), folder / "in", silent)
        await backend.prepare(image, silent)
        assert digest in dockerd.docker("images", "-q", "--no-trunc")
        said = dockerd.docker("run", "--rm", "--network=none", digest, "cat", "/deep/\N{SNOWMAN}")
        assert said == "x" * 700
        dockerd.docker("rmi", "--force", digest)


async def test_straight_from_the_host(tmp_path, dockerd):
    async with opened(DirectSyncer, tmp_path) as syncer:
        await there_and_back(syncer, dockerd, tmp_path)


async def test_by_a_shared_directory(tmp_path, dockerd):
    share = tmp_path / "share"
    share.mkdir()
    (share / ".kohakuriver").touch()
    async with opened(NfsSyncer, tmp_path, path=str(share)) as syncer:
        await there_and_back(syncer, dockerd, tmp_path)


async def test_by_a_registry_with_a_sign_in(tmp_path, dockerd):
    """The same contents under one address in two networks: the daemon's, and the one in which we ask."""
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "password").write_text("correct horse")
    with ExitStack() as stack:
        here = stack.enter_context(a_registry(tmp_path / "here", sign_in=True))
        (tmp_path / "here/data").mkdir()
        (tmp_path / "there").mkdir()
        (tmp_path / "there/data").symlink_to(tmp_path / "here/data")
        port = int(here.host.rpartition(":")[2])
        stack.enter_context(a_registry(tmp_path / "there", sign_in=True, inside=dockerd.inside, port=port))
        sign_in = {"username": "ada", "password_file": str(tmp_path / "password")}
        async with opened(RegistrySyncer, tmp_path, repository=f"{here.host}/lab", **sign_in) as syncer:
            await there_and_back(syncer, dockerd, tmp_path)
            assert len(await syncer.list()) == 1
