"""The daemon stops, restarts, dies, hangs or is not to be found: what is said afterwards is true."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kohakuriver_docker import orphans
from kohakuriver_docker.backend import DockerBackend
from kohakuriver_docker.engine import Unreachable

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Handle, Job, Mount, Offsets
from kohakuriver.testing.contracts.backend import collect
from kohakuriver.testing.dockerd import Dockerd, a_daemon

from .docker_kit import DockerKit, begin

pytestmark = pytest.mark.docker

#: goes on when the file is there; told by its output how long it ran
WAITS = ("sh", "-c", "echo up; while [ ! -e /local_temp/go ]; do sleep 0.05; done; echo gone on; exit 7")


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Iterator[Dockerd]:
    with a_daemon(live_restore=getattr(request, "param", False)) as made:
        yield made


@pytest.fixture
async def opened(daemon: Dockerd, tmp_path: Path) -> AsyncIterator[tuple[DockerKit, DockerBackend]]:
    async with AsyncExitStack() as stack, asyncio.timeout(120):
        kit = DockerKit(tmp_path, daemon)
        yield kit, await stack.enter_async_context(kit.open())


LIVE = pytest.mark.parametrize("daemon", [True], indirect=True, ids=["live-restore"])
BOTH_ENDS = pytest.mark.parametrize("end", [Dockerd.stop, Dockerd.kill], ids=["stop", "kill -9"])


class Watched:
    """A run with somebody who waits for its end and somebody who reads its output, as a runner has them."""

    def __init__(self, backend: DockerBackend, handle: Handle, run: str) -> None:
        self.handle = handle
        self.run = run
        self.wait = asyncio.ensure_future(backend.wait(handle, run))
        self.output = asyncio.ensure_future(self._read(backend, handle, run))
        self.up = asyncio.Event()
        self.at_least = False

    @classmethod
    async def begin(cls, backend: DockerBackend, job: Job) -> "Watched":
        """Returns when its first words were read."""
        made = cls(backend, *await begin(backend, job))
        await made.up.wait()
        return made

    async def ends_well(self) -> None:
        """As WAITS does, and nothing else is said of it."""
        ended = await self.wait
        assert (ended.code, ended.reason, ended.oom) == (7, None, False)

    async def _read(self, backend: DockerBackend, handle: Handle, run: str) -> bytes:
        found = b""
        async for chunk in backend.output(handle, run, Offsets()):
            self.at_least = self.at_least or chunk.at_least
            if chunk.stream == "stdout":
                assert chunk.offset == len(found)
                found += chunk.data
                self.up.set()
        return found


def goes(kit: DockerKit, directory: Path):
    """A job that waits for a file, and what makes the file."""
    place = directory / "scratch"
    place.mkdir()
    job = kit.job(WAITS, mounts=(Mount(source=place, target="/local_temp"),))
    return job, (place / "go").touch


@BOTH_ENDS
async def test_without_live_restore_its_end_is_told_as_the_runtimes(
    opened, daemon: Dockerd, end: Callable[[Dockerd], None]
) -> None:
    kit, backend = opened
    watched = await Watched.begin(backend, kit.job(("sh", "-c", "echo up; sleep 1000")))
    await asyncio.to_thread(end, daemon)
    await asyncio.to_thread(daemon.start)
    ended = await watched.wait
    assert ended.code in (143, 137)
    assert "runtime stopped" in (ended.reason or "")
    assert not ended.oom
    assert await watched.output == b"up\n"
    assert watched.at_least
    assert (await backend.see(watched.handle)).exit == ended


@LIVE
@BOTH_ENDS
async def test_with_live_restore_it_goes_on(
    opened, daemon: Dockerd, tmp_path: Path, end: Callable[[Dockerd], None]
) -> None:
    kit, backend = opened
    job, go = goes(kit, tmp_path)
    watched = await Watched.begin(backend, job)
    await asyncio.to_thread(end, daemon)
    with pytest.raises(Unreachable):
        await backend.see(watched.handle)
    assert not (await backend.probe()).usable
    await asyncio.to_thread(daemon.start)
    assert (await backend.see(watched.handle)).phase == "running"
    assert await backend.start(watched.handle, job) == watched.run
    go()
    await watched.ends_well()
    assert await watched.output == b"up\ngone on\n"
    assert not watched.at_least


@LIVE
@BOTH_ENDS
async def test_an_end_in_its_absence_keeps_the_code(
    opened, daemon: Dockerd, tmp_path: Path, end: Callable[[Dockerd], None]
) -> None:
    kit, backend = opened
    job, go = goes(kit, tmp_path)
    watched = await Watched.begin(backend, job)
    await asyncio.to_thread(end, daemon)
    go()
    while await kit.processes_left(watched.handle):
        await asyncio.sleep(0.05)
    await asyncio.to_thread(daemon.start)
    await watched.ends_well()
    assert (await watched.output).startswith(b"up\n")
    assert watched.at_least, "the daemon was away: what it did not see may be more"


async def test_a_daemon_that_hangs_holds_everything_up_and_changes_nothing(
    opened, daemon: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, backend = opened
    job, go = goes(kit, tmp_path)
    watched = await Watched.begin(backend, job)
    daemon.freeze()
    with monkeypatch.context() as hurried:
        hurried.setattr("kohakuriver_docker.backend.PROBE_LIMIT", 0.5)
        probe = await backend.probe()
    assert (probe.usable, "did not answer" in probe.problems[0]) == (False, True)
    go()
    assert not watched.wait.done()
    daemon.thaw()
    await watched.ends_well()
    assert await watched.output == b"up\ngone on\n"
    assert (await backend.probe()).usable


async def test_a_start_that_hung_is_one_start(opened, daemon: Dockerd) -> None:
    kit, backend = opened
    job = kit.job(kit.programs.say(b"once\n", code=3))
    handle = await backend.create(job)
    assert (await begin(backend, kit.job(kit.programs.say())))[1]  # the program is known to be there
    daemon.freeze()
    starts = [asyncio.ensure_future(backend.start(handle, job)) for _ in range(2)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.shield(starts[0])
    starts[0].cancel()  # its caller gave up; the request may be with the daemon
    async with kit.open() as again:  # and the runner is another one
        starts.append(asyncio.ensure_future(again.start(handle, job)))
        daemon.thaw()
        runs = set(await asyncio.gather(*starts[1:]))
        assert len(runs) == 1
        run = runs.pop()
        assert (await again.wait(handle, run)).code == 3
        assert (await collect(again, handle, run))["stdout"] == b"once\n"


async def test_a_socket_that_is_not_to_be_found_costs_nothing_and_loses_nothing(
    opened, daemon: Dockerd, tmp_path: Path
) -> None:
    kit, backend = opened
    job, go = goes(kit, tmp_path)
    handle, run = await begin(backend, job)
    async with kit.open() as again:  # no connection from before
        away = daemon.socket.with_suffix(".away")
        daemon.socket.rename(away)
        waiting = asyncio.ensure_future(again.wait(handle, run))
        began = resource.getrusage(resource.RUSAGE_SELF)
        go()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.shield(waiting)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        assert spent.ru_utime + spent.ru_stime - began.ru_utime - began.ru_stime < 0.5
        assert not (await again.probe()).usable
        away.rename(daemon.socket)
        assert (await waiting).code == 7
        assert (await collect(again, handle, run))["stdout"] == b"up\ngone on\n"


@LIVE
@pytest.mark.parametrize("long", [True, False], ids=["long", "short"])
async def test_a_start_in_whose_middle_the_daemon_dies_runs_once_and_leaves_nothing(
    opened, daemon: Dockerd, tmp_path: Path, long: bool
) -> None:
    """kill -9 at moments all over a start; what was cut short before the program began is started again."""
    kit, backend = opened
    (tmp_path / "log").mkdir()
    ran = tmp_path / "log" / "starts"
    held, _ = await begin(backend, kit.job(kit.programs.sleep()))
    for number in range(6):
        mount = Mount(source=tmp_path / "log", target="/log")
        job = kit.job(("sh", "-c", f"echo {number} >>/log/starts" + "; exec sleep 1000" * long), mounts=(mount,))
        handle = await backend.create(job)
        starting = asyncio.ensure_future(backend.start(handle, job))
        await asyncio.wait({starting}, timeout=0.05 * number)
        await asyncio.to_thread(daemon.kill)
        await asyncio.wait({starting})
        starting.exception()
        await asyncio.to_thread(daemon.start)
        with contextlib.suppress(PluginError):  # nobody knew it, and it is ended
            run = await backend.start(handle, job)
            await until(lambda number=number: ran.exists() and f"{number}" in ran.read_text().split())
            assert (await backend.see(handle)).run == run
        await backend.remove(handle)
        assert await kit.processes_left(handle) == 0
        assert orphans.find(handle.data["container"]) == orphans.Remains((), (), ())
    starts = ran.read_text().split()
    assert len(starts) == len(set(starts))
    assert (await backend.see(held)).phase == "running"


async def until(look: Callable[[], bool]) -> None:
    while not look():
        await asyncio.sleep(0.02)
