"""Images built and taken in by a real daemon: the log, what is refused, and what is left when it comes to nothing."""

import asyncio
import gzip
import json
import os
import tarfile
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard
from kohakuriver_docker import contexts
from kohakuriver_docker.environments import DockerEnvironments

from kohakuriver.errors import Invalid, PluginError
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import IMAGE, Dockerd

from .environments_kit import EnvironmentsKit, Notes, tar_of, tidied, version, write

pytestmark = pytest.mark.docker
DOCKERFILE = f"FROM {IMAGE}\nCOPY file /copied\nRUN echo built-in-here && cat /copied > /made\nENV A=b\n"
PACKED = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> EnvironmentsKit:
    return EnvironmentsKit(tmp_path, dockerd, node=tmp_path.name)


@pytest.fixture
async def environments(kit: EnvironmentsKit) -> AsyncIterator[DockerEnvironments]:
    async with tidied(kit) as opened:
        yield opened


def context(folder: Path, packed: str = "plain", dockerfile: str = DOCKERFILE, name: str = "Dockerfile") -> Path:
    data = tar_of({name: dockerfile.encode(), "file": str(folder).encode()})
    return write(folder, "context", PACKED[packed](data))


def containers(kit: EnvironmentsKit) -> list[str]:
    return kit.dockerd.docker("ps", "-aq").split()


@pytest.mark.parametrize("packed", PACKED)
async def test_an_image_is_built_and_its_log_told(environments, kit, tmp_path: Path, packed: str) -> None:
    told = Notes()
    before = containers(kit)
    package = await environments.build(context(tmp_path, packed), "Dockerfile", told)
    assert any("built-in-here" in note for note in told.notes)
    assert "A=b" in json.loads(package.config)["config"]["Env"]
    assert containers(kit) == before
    await environments.settle("env", version("env", 1, package))
    assert kit.pending() == []
    await environments.create("env", Image(kind="oci", digest=package.digest), "env:1", Notes())
    assert kit.inside("env", "cat", "/made") == str(tmp_path)


async def test_the_dockerfile_may_have_another_name(environments, tmp_path: Path) -> None:
    await environments.build(context(tmp_path, name="other"), "other", Notes())
    with pytest.raises(PluginError, match="Dockerfile"):
        await environments.build(context(tmp_path, name="other"), "Dockerfile", Notes())


async def test_a_build_that_fails_names_its_step_in_one_line_and_leaves_nothing(
    environments, kit, tmp_path: Path
) -> None:
    images, before = kit.images(), containers(kit)
    broken = DOCKERFILE + "RUN echo last-words && false\n"
    told = Notes()
    with pytest.raises(PluginError, match=r"not built at step 5/5 \(RUN\): .* returned a non-zero code: 1$") as failure:
        await environments.build(context(tmp_path, dockerfile=broken), "Dockerfile", told)
    assert "\n" not in failure.value.message
    assert "last-words" in told.notes
    assert (kit.images(), containers(kit), kit.pending()) == (images, before, [])


@pytest.mark.parametrize(
    "data",
    [b"", b"no tar at all", bytes(10240), gzip.compress(b"no tar"), gzip.compress(tar_of({"a": b"b"}))[:-40][:60]],
)
async def test_what_is_no_tar_does_not_reach_the_daemon(environments, kit, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Invalid, match="context"):
        await environments.build(write(tmp_path, "context", data), "Dockerfile", Notes())
    assert environments._engine.losses == 0


def test_what_the_first_header_of_a_context_promises_is_not_taken_in(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("long")
    entry.type, entry.size = tarfile.XHDTYPE, 64 << 20
    path = write(tmp_path, "context", gzip.compress(entry.tobuf() + bytes(entry.size), 1))
    tracemalloc.start()
    try:
        contexts.check(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_a_damaged_context_is_told_as_that(environments, kit, tmp_path: Path) -> None:
    whole = gzip.compress(tar_of({"Dockerfile": DOCKERFILE.encode(), "file": os.urandom(3_000_000)}))
    images = kit.images()
    with pytest.raises(Invalid, match="damaged"):
        await environments.build(write(tmp_path, "context", whole[:-500_000]), "Dockerfile", Notes())
    assert (kit.images(), environments._engine.losses) == (images, 0)


async def test_a_build_that_is_given_up_leaves_nothing(environments, kit, tmp_path: Path) -> None:
    images, before = kit.images(), containers(kit)
    slow = DOCKERFILE + "RUN echo now-waiting && sleep 1000\n"
    reached = asyncio.Event()

    def told(note: str, done: int | None = None, total: int | None = None) -> None:
        if "now-waiting" in note and "RUN" not in note:
            reached.set()

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        building = group.create_task(environments.build(context(tmp_path, dockerfile=slow), "Dockerfile", told))
        await reached.wait()
        building.cancel()
    async with asyncio.timeout(120):
        while containers(kit) != before:
            await asyncio.sleep(0.1)
    await environments.sweep({})
    assert (kit.images(), kit.pending()) == (images, [])


async def test_what_a_dead_life_built_goes_with_the_next_sweep(environments, kit, tmp_path: Path) -> None:
    images = kit.images()
    async with kit.environments() as gone:
        await gone.build(context(tmp_path), "Dockerfile", Notes())
    assert len(kit.pending()) == 1
    await environments.sweep({})
    assert (kit.images(), kit.pending()) == (images, [])


async def test_an_archive_is_taken_whatever_names_it_brings(environments, kit, tmp_path: Path) -> None:
    built = await environments.build(context(tmp_path), "Dockerfile", Notes())
    kit.dockerd.docker("tag", built.digest, "foreign/name:1")
    path = tmp_path / "saved.tar"
    kit.dockerd.docker("save", "-o", str(path), "foreign/name:1")
    kit.dockerd.docker("rmi", "foreign/name:1")
    await environments.sweep({})
    assert built.digest in kit.images()
    async with kit.environments() as later:
        await later.sweep({})
    assert built.digest not in kit.images()
    package = await environments.take(path, Notes())
    assert package.digest == built.digest
    assert len(kit.pending()) == 1
    assert "foreign/name" not in kit.dockerd.docker("images")
    await environments.settle("env", version("env", 1, package))
    assert kit.pending() == []


async def test_a_bad_archive_is_refused_and_leaves_nothing(environments, kit, tmp_path: Path) -> None:
    images = kit.images()
    with pytest.raises(Invalid):
        await environments.take(write(tmp_path, "a.tar", tar_of({"../evil": b"x"})), Notes())
    assert (kit.images(), kit.pending()) == (images, [])
