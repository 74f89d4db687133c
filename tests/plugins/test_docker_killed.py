"""Packaging and settling that are cut off after every single request: the next life makes it whole."""

import contextlib
from pathlib import Path

import pytest
from kohakuriver_docker.environments import DockerEnvironments

from kohakuriver.testing.dockerd import Dockerd

from .environments_kit import IMAGE_OF_TESTS, EnvironmentsKit, Notes, tidied, version

pytestmark = pytest.mark.docker
MOST_REQUESTS = 60


class Killed(BaseException):
    """The runner is no more."""


def die_after(environments: DockerEnvironments, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = environments._engine
    stream = engine.stream
    left = [requests]

    @contextlib.asynccontextmanager
    async def counted(*words, **fields):
        if left[0] <= 0:
            raise Killed
        left[0] -= 1
        async with stream(*words, **fields) as response:
            yield response

    monkeypatch.setattr(engine, "stream", counted)


@pytest.fixture
def kit(tmp_path: Path, dockerd: Dockerd) -> EnvironmentsKit:
    return EnvironmentsKit(tmp_path, dockerd, node=tmp_path.name)


async def test_a_packaging_that_dies_anywhere_leaves_the_container_as_it_was(kit, monkeypatch) -> None:
    async with tidied(kit) as environments:
        await environments.create("env", IMAGE_OF_TESTS, "busybox", Notes())
        kit.inside("env", "touch", "/kept")
        images = kit.images()
        for requests in range(1, MOST_REQUESTS):
            async with kit.environments() as dying:
                die_after(dying, requests, monkeypatch)
                with contextlib.suppress(Killed):
                    await dying.commit("env", force=False, progress=Notes())
                    break
            async with kit.environments() as later:
                await later.sweep({})
                (found,) = await later.list()
            assert (found.state, kit.images(), kit.pending()) == ("running", images, []), requests
            assert kit.inside("env", "ls", "/kept") == "/kept\n"
        assert 5 < requests < MOST_REQUESTS - 3


async def test_a_settling_that_dies_anywhere_is_finished(kit, monkeypatch) -> None:
    async with tidied(kit) as environments:
        await environments.create("env", IMAGE_OF_TESTS, "busybox", Notes())
        for requests in range(1, MOST_REQUESTS, 3):
            kit.inside("env", "sh", "-c", f"echo {requests} > /kept")
            package = await environments.commit("env", force=False, progress=Notes())
            new = version("env", requests, package)
            ended = False
            async with kit.environments() as dying:
                die_after(dying, requests, monkeypatch)
                with contextlib.suppress(Killed):
                    await dying.settle("env", new)
                    ended = True
            async with kit.environments() as later:
                await (later.settle("env", new) if requests % 2 else later.sweep({package.digest: new}))
                (found,) = await later.list()
            assert (found.state, found.base, kit.pending()) == ("running", package.digest, []), requests
            assert (len(kit.ours("env")), kit.inside("env", "cat", "/kept")) == (1, f"{requests}\n")
            if ended:
                break
        assert 5 < requests < MOST_REQUESTS - 3
