"""Files of a container when who asked for them goes away in the middle of it: no descriptor and no part is left.

Here the container is this very machine, as seen from the process of the test.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kohakuriver_docker import contents, rootfs
from kohakuriver_docker.container import NEVER, State
from kohakuriver_docker.contents import Reading, Writing
from kohakuriver_docker.files import DockerFiles
from kohakuriver_docker.rootfs import Place
from kohakuriver_docker.setups import Config, Setup

from kohakuriver.errors import PluginError
from kohakuriver.hooks.context import Context
from kohakuriver.net.process import run_command

PATIENCE = 30.0


class Gate:
    """One call that stands still in its thread, once its work is done or before it, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool) -> None:
        self._before = before
        self._go = threading.Event()
        self._ended = threading.Event()
        self.began = asyncio.Event()
        self.failed: list[Exception] = []
        self._loop = asyncio.get_running_loop()
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: self._slow(function, *arguments))

    def _slow(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = None if self._before else function(*arguments)
            self._loop.call_soon_threadsafe(self.began.set)
            assert self._go.wait(PATIENCE)
            return function(*arguments) if self._before else answer
        except Exception as error:
            self.failed.append(error)
            raise
        finally:
            self._ended.set()

    async def cut_off(self, work: "asyncio.Task[Any]") -> None:
        """Cancels it while the call stands still; on return both have ended."""
        async with asyncio.timeout(PATIENCE):
            await self.began.wait()
            work.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            self._go.set()
            await asyncio.wait([work])
            assert await asyncio.to_thread(self._ended.wait, PATIENCE)
        assert work.cancelled()


def files(tmp_path: Path) -> DockerFiles:
    state = tmp_path / "state"
    state.mkdir()
    ctx = Context(cluster="c", node="n", boot="b", state=state, run=run_command, in_thread=asyncio.to_thread)

    async def find() -> Setup:
        running = State(
            status="running",
            running=True,
            paused=False,
            oom_killed=False,
            pid=os.getpid(),
            exit_code=0,
            error="",
            started=NEVER,
            finished=NEVER,
        )
        return Setup(id="", name="", image="", state=running, config=Config())

    @asynccontextmanager
    async def changing() -> AsyncIterator[None]:
        yield

    return DockerFiles(ctx, find, changing)


async def two() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("owner", "call", "before"), [(contents, "writing", False), (Writing, "append", True)])
async def test_an_upload_leaves_no_part_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str, before: bool
) -> None:
    gate = Gate(monkeypatch, owner, call, before=before)
    found = files(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    open_before = descriptors()
    async with asyncio.TaskGroup() as group:
        await gate.cut_off(group.create_task(found.write(f"{folder}/file", two(), 2)))
    assert gate.failed == []
    assert list(folder.iterdir()) == []
    assert descriptors() <= open_before


@pytest.mark.parametrize(("owner", "call", "before"), [(contents, "reading", False), (Reading, "some", True)])
async def test_a_download_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str, before: bool
) -> None:
    gate = Gate(monkeypatch, owner, call, before=before)
    found = files(tmp_path)
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def first() -> None:
        pieces = found.read(str(path))
        try:
            await anext(pieces)
        finally:
            await pieces.aclose()

    open_before = descriptors()
    async with asyncio.TaskGroup() as group:
        await gate.cut_off(group.create_task(first()))
    assert gate.failed == []
    assert descriptors() <= open_before


def here() -> Place:
    return Place(container="", pid=os.getpid(), driver="")


def test_what_the_kernel_does_not_give_is_told_in_words(tmp_path: Path) -> None:
    reading = contents.reading(here(), tmp_path, f"/proc/{os.getpid()}/mem")
    try:
        with pytest.raises(PluginError, match="/mem: "):
            reading.some()
    finally:
        reading.close()


def test_a_container_that_ends_while_it_is_reached_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> str:
        raise ProcessLookupError(3, "no such process", str(path))

    monkeypatch.setattr(Path, "read_text", gone)
    before = descriptors()
    with pytest.raises(PluginError, match="cannot be reached"), rootfs.opened(here(), tmp_path):
        pass
    assert descriptors() == before
