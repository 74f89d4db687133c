"""The process backend, opened as often and as differently as a test wants, and one Docker daemon for all."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kohakuriver_process.backend import ProcessBackend

from kohakuriver.testing.dockerd import Dockerd, a_daemon

from .process_kit import ProcessKit


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A daemon with an image, for tests that leave it as it is."""
    with a_daemon() as daemon:
        yield daemon


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable]:
    """Opens a kit with a configuration and its backend; removes every body at the end."""
    async with AsyncExitStack() as stack, asyncio.timeout(60):

        async def use(**config):
            directory = tmp_path / f"kit{len(made)}"
            directory.mkdir()
            kit = ProcessKit(directory, **config)
            backend = await stack.enter_async_context(kit.open())
            made.append((kit, backend))
            return kit, backend

        made: list[tuple[ProcessKit, ProcessBackend]] = []
        yield use
        for kit, _ in made:
            async with kit.open() as backend:
                for _, handle in await backend.found():
                    await backend.remove(handle)
