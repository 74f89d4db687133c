"""Images from a registry: fetched once with progress, and a sentence for each way in which they are not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kohakuriver_docker.backend import DockerBackend

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Image
from kohakuriver.testing.dockerd import Dockerd, image_tree

from . import registry
from .docker_kit import DockerKit, run

pytestmark = pytest.mark.docker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The registry's; its image is a different one in each test, so that nothing of it is here already."""
    path = tmp_path / "registry"
    path.mkdir()
    registry.write_image(path, image_tree(str(tmp_path)))
    return path


@pytest.fixture
def name(folder: Path, dockerd: Dockerd) -> Iterator[str]:
    with registry.serving(folder, dockerd.inside) as port:
        yield f"127.0.0.1:{port}/busybox:1"


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> DockerKit:
    return DockerKit(tmp_path, dockerd, pull_silence=60)


@pytest.fixture
async def backend(kit: DockerKit) -> AsyncIterator[DockerBackend]:
    async with kit.open() as opened, asyncio.timeout(120):
        yield opened
        for _, handle in await opened.found():
            await opened.remove(handle)


class Told:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.known: list[tuple[int, int]] = []

    def __call__(self, note: str, done: int | None = None, total: int | None = None) -> None:
        self.notes.append(note)
        if done is not None and total is not None:
            self.known.append((done, total))


def image(name: str) -> Image:
    return Image(kind="oci", reference=name)


async def test_it_is_fetched_with_progress_once_for_all_who_wait(
    backend: DockerBackend, kit: DockerKit, name: str, folder: Path
) -> None:
    (folder / "halves").touch()
    told = [Told() for _ in range(3)]
    fetching = asyncio.gather(*(backend.prepare(image(name), one) for one in told))
    while not any(one.known for one in told):
        await asyncio.wait({fetching}, timeout=0.05)
        assert not fetching.done()
    (fetcher,) = [one for one in told if one.known]
    done, total = fetcher.known[0]
    assert 0 < done < total
    (folder / "halves").unlink()
    await fetching
    assert set(fetcher.notes) == {f"fetching {name}"}
    others = [one.notes for one in told if one is not fetcher]
    assert others == [[f"{name} is being fetched for another task"]] * 2
    ended, found = await run(backend, kit.job(("echo", "here"), image=image(name)))
    assert (ended.code, found["stdout"]) == (0, b"here\n")


async def test_a_registry_that_falls_silent_is_given_up(kit: DockerKit, name: str, folder: Path) -> None:
    (folder / "silent").touch()
    patient = dict(kit.config)
    kit.config["pull_silence"] = 1
    async with kit.open() as backend, asyncio.timeout(120):
        with pytest.raises(PluginError, match="nothing came for 1 s"):
            await backend.prepare(image(name), Told())
    (folder / "silent").unlink()
    kit.config = patient
    async with kit.open() as backend, asyncio.timeout(120):
        await backend.prepare(image(name), Told())


async def test_a_fetching_that_is_cancelled_lets_the_next_one_fetch(
    backend: DockerBackend, name: str, folder: Path
) -> None:
    (folder / "silent").touch()
    first = asyncio.ensure_future(backend.prepare(image(name), Told()))
    second = asyncio.ensure_future(backend.prepare(image(name), Told()))
    await asyncio.wait({first}, timeout=0.3)
    first.cancel()
    (folder / "silent").unlink()
    await second
    assert first.cancelled()


async def test_what_the_registry_has_not_is_told(backend: DockerBackend, name: str) -> None:
    with pytest.raises(PluginError, match="there is no such image, or it needs a sign-in"):
        await backend.prepare(image(name.replace("busybox:1", "busybox:2")), Told())


async def test_bytes_that_are_not_what_was_promised_are_refused(
    backend: DockerBackend, name: str, folder: Path
) -> None:
    for blob in folder.glob("sha256:*"):
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(PluginError, match="was not fetched"):
        await backend.prepare(image(name), Told())
