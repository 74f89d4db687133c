"""A daemon that is slow to answer, of the test's own making: waits have an end, and nothing is asked for twice."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from kohakuriver_docker import building, local, output, packaging
from kohakuriver_docker.building import Building
from kohakuriver_docker.config import Settings
from kohakuriver_docker.container import NEVER, Container, State
from kohakuriver_docker.engine import LONG, Engine, EngineError
from kohakuriver_docker.exporting import Exporter
from kohakuriver_docker.images import Images
from kohakuriver_docker.importing import Importer
from kohakuriver_docker.info import Info
from kohakuriver_docker.inspected import Inspected
from kohakuriver_docker.names import Names
from kohakuriver_docker.output import Reader
from kohakuriver_docker.packaging import Packaging
from kohakuriver_docker.pushing import Pusher
from kohakuriver_docker.setups import Config, Setup

from kohakuriver.errors import PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Image, Offsets
from kohakuriver.net.process import run_command

from .environments_kit import tar_of, write

NAME = "a" * 64
PATIENCE = 30.0
STAMP = b"2026-01-01T00:00:00.000000000Z "
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def frame(data: bytes) -> bytes:
    return bytes((1, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Daemon:
    """Answers as the test says; everything else is not found."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.partition("/v1.41")[2] or request.path
        if path == "/version":
            return web.json_response({"ApiVersion": "1.41"})
        if path not in self.answers:
            return web.json_response({"message": "no such thing"}, status=404)
        return await self.answers[path](request)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def engine(daemon: Daemon, tmp_path: Path) -> AsyncIterator[Engine]:
    server = web.Server(daemon.answer, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "d.sock")).start()
    made = Engine(str(tmp_path / "d.sock"))
    yield made
    await made.close()
    await runner.cleanup()


def context(tmp_path: Path) -> Context:
    return Context(cluster="c", node="n", boot="b", state=tmp_path, run=run_command, in_thread=asyncio.to_thread)


async def forever(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def images_of(engine: Engine, tmp_path: Path, *, silence: float) -> Images:
    async def facts() -> Info:
        raise AssertionError("nothing is imported here")

    ctx = context(tmp_path)
    return Images(engine, Names(ctx), ctx, Importer(engine, ctx, Settings(), facts), silence)


async def test_a_fetching_of_which_not_even_the_first_word_comes_is_given_up(
    daemon: Daemon, engine: Engine, tmp_path: Path
) -> None:
    daemon.answers["/images/create"] = forever
    images = images_of(engine, tmp_path, silence=0.2)
    with pytest.raises(PluginError, match="nothing came for"):
        async with asyncio.timeout(PATIENCE):
            await images.prepare(Image(kind="oci", reference="a:1"), lambda *_: None)


async def test_a_push_of_which_not_even_the_first_word_comes_is_given_up(
    daemon: Daemon, engine: Engine, tmp_path: Path
) -> None:
    daemon.answers["/images/a/push"] = forever
    with pytest.raises(PluginError, match="was not pushed: nothing came for"):
        async with asyncio.timeout(PATIENCE):
            await Pusher(engine, context(tmp_path), 0.2)._push("a:1", None, lambda *_: None)


async def test_an_image_is_fetched_by_one_at_a_time_although_the_first_one_fails(
    daemon: Daemon, engine: Engine, tmp_path: Path
) -> None:
    asked: asyncio.Queue[asyncio.Future[bytes]] = asyncio.Queue()
    notes: asyncio.Queue[str] = asyncio.Queue()

    async def create(_: web.Request) -> web.StreamResponse:
        words: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        await asked.put(words)
        return web.Response(body=await words)

    def prepare() -> asyncio.Task[None]:
        return asyncio.ensure_future(images.prepare(Image(kind="oci", reference="a:1"), notes.put_nowait))

    daemon.answers["/images/create"] = create
    images = images_of(engine, tmp_path, silence=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        first = prepare()
        words = await asked.get()
        second = prepare()
        assert [await notes.get(), await notes.get()] == ["fetching a:1", "a:1 is being fetched for another task"]
        words.set_result(b'{"error": "the registry is on fire"}\n')
        with pytest.raises(PluginError, match="on fire"):
            await first
        await asked.get()
        third = prepare()
        assert [await notes.get(), await notes.get()] == ["fetching a:1", "a:1 is being fetched for another task"]
    for task in (second, third):
        task.cancel()
    await asyncio.wait({second, third})


async def ended(_: str) -> Container:
    """What is told of a container that has ended."""
    told = {"Status": "exited", "Running": False, "Paused": False, "OOMKilled": False, "Pid": 0, "ExitCode": 0}
    times = {"Error": "", "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "2026-01-01T00:00:01Z"}
    return msgspec.convert({"Id": NAME, "State": {**told, **times}, "Config": {}}, Container)


def reader(engine: Engine, tmp_path: Path) -> Reader:
    return Reader(engine, context(tmp_path), ended, NAME, begins=tmp_path / "begins" / "7.1", at=Offsets())


def stamped(request: web.Request, data: bytes) -> bytes:
    return frame(STAMP + data if "timestamps" in request.query else data)


@pytest.mark.parametrize("stamps", [True, False], ids=["its first message", "all of it"])
async def test_a_log_of_which_no_word_comes_is_asked_for_again(
    stamps: bool, daemon: Daemon, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SHORT", 0.2)
    monkeypatch.setattr(output, "LEAST_PAUSE", 0.01)
    hung: list[str] = []

    async def logs(request: web.Request) -> web.StreamResponse:
        if not hung and ("timestamps" in request.query) is stamps:
            hung.append(request.path)
            await forever(request)
        return web.Response(body=stamped(request, b"hello"))

    daemon.answers[f"/containers/{NAME}/logs"] = logs
    async with asyncio.timeout(PATIENCE):
        found = [chunk async for chunk in reader(engine, tmp_path).chunks(None)]
    assert (b"".join(chunk.data for chunk in found), len(hung)) == (b"hello", 1)


class Counting(Engine):
    """Knows how many streams it has open."""

    streams = 0

    @contextlib.asynccontextmanager
    async def stream(self, *arguments: Any, **named: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with super().stream(*arguments, **named) as response:
            self.streams += 1
            try:
                yield response
            finally:
                self.streams -= 1


async def test_a_reader_that_leaves_in_the_middle_of_a_log_keeps_no_connection(
    daemon: Daemon, engine: Engine, tmp_path: Path
) -> None:
    async def logs(request: web.Request) -> web.StreamResponse:
        if request.query.get("timestamps"):
            return web.Response(body=stamped(request, b"hello"))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(frame(b"hello"))
        return response if not (tmp_path / "begins" / "7.1").exists() else await forever(request)

    daemon.answers[f"/containers/{NAME}/logs"] = logs
    counting = Counting(engine.socket)
    chunks = reader(counting, tmp_path).chunks(None)
    async with asyncio.timeout(PATIENCE):
        assert (await anext(chunks)).data == b"hello"
    assert counting.streams == 1
    await chunks.aclose()
    assert counting.streams == 0
    await counting.close()


async def test_what_the_daemon_says_in_several_lines_is_told_in_one(daemon: Daemon, engine: Engine) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "no:\n\tnot now\r\n"}, status=500)

    daemon.answers["/containers/x/start"] = refuse
    with pytest.raises(EngineError) as refused:
        await engine.send("POST", "/containers/x/start")
    assert refused.value.message == "no: not now"


async def test_a_builder_of_which_not_even_the_first_word_comes_is_given_up(
    daemon: Daemon, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["/build"] = forever
    monkeypatch.setattr(building, "SILENCE", 0.2)
    ctx = context(tmp_path)
    names = Names(ctx)
    packed = write(tmp_path, "context", tar_of({"Dockerfile": b"FROM x"}))
    with pytest.raises(PluginError, match="its builder said nothing for"):
        async with asyncio.timeout(PATIENCE):
            await Building(engine, names, ctx, Packaging(engine, names), network=None).build(
                packed, "Dockerfile", lambda *_: None
            )


async def test_a_container_of_which_no_file_comes_does_not_hold_its_packaging_for_ever(
    daemon: Daemon, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["/containers/x/export"] = forever
    monkeypatch.setattr(packaging, "COMMIT", 0.2 - LONG)
    state = msgspec.convert(
        {"Status": "", "Running": False, "Paused": False, "OOMKilled": False, "Pid": 0, "ExitCode": 0, "Error": ""}
        | {"StartedAt": NEVER, "FinishedAt": NEVER},
        State,
    )
    found = Setup(id="x", name="", image="", state=state, config=Config())
    packages = Packaging(engine, Names(context(tmp_path)))
    with pytest.raises(PluginError, match="Docker gave no files"):
        async with asyncio.timeout(PATIENCE):
            await packages._squash("env", found, Inspected(id="x"))


async def test_an_image_is_looked_into_by_one_at_a_time_although_the_first_one_fails(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, looked = asyncio.Queue[None](), asyncio.Queue[None](), 0

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal looked
        looked += function is bundles.read_index
        return await asyncio.to_thread(function, *arguments)

    async def facts() -> Info:
        raise AssertionError("nothing is asked here")

    async def fails(*_: object) -> None:
        began.put_nowait(None)
        await go.get()
        raise PluginError("no")

    ctx = dataclasses.replace(context(tmp_path), in_thread=in_thread)
    exporter = Exporter(engine, ctx, 1.0, facts)
    monkeypatch.setattr(exporter, "_look_into", fails)

    async def describe() -> None:
        with pytest.raises(PluginError):
            await exporter.describe(local.Inspected(id="sha256:" + "a" * 64))

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(describe())
        await began.get()
        group.create_task(describe())
        await asyncio.sleep(0)
        go.put_nowait(None)
        await began.get()
        group.create_task(describe())
        for _ in range(10):
            await asyncio.sleep(0)
        assert looked == 2
        go.put_nowait(None)
        go.put_nowait(None)
    assert looked == 3
