"""Limits, profile, network, images and other people's containers, as they are in a real daemon."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kohakuriver_docker import order, output
from kohakuriver_docker.backend import DockerBackend
from kohakuriver_docker.config import Options
from kohakuriver_docker.container import Container

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Grant, Image, Mount, Offsets
from kohakuriver.testing.contracts.backend import until_up
from kohakuriver.testing.dockerd import Dockerd

from .docker_kit import DockerKit, begin, run

pytestmark = pytest.mark.docker


@pytest.fixture
async def opened(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Callable]:
    async with AsyncExitStack() as stack, asyncio.timeout(120):

        async def use(**config):
            node = f"n{len(made)}"
            (tmp_path / node).mkdir()
            kit = DockerKit(tmp_path / node, dockerd, node=node, **config)
            backend = await stack.enter_async_context(kit.open())
            made.append((kit, backend))
            return kit, backend

        made: list[tuple[DockerKit, DockerBackend]] = []
        yield use
        for _, backend in made:
            for _, handle in await backend.found():
                await backend.remove(handle)


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


async def said(backend: DockerBackend, job) -> str:
    ended, found = await run(backend, job)
    assert ended.code == 0, found
    return found["stdout"].decode()


async def test_limits_are_seen_from_inside(opened: Callable) -> None:
    kit, backend = await opened()
    text = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"
    found = await said(backend, kit.job(shell(text), grant=Grant(memory=64 * 2**20, cpu_milli=500)))
    memory, quota = found.split()[:2]
    assert (memory, quota) == (str(64 * 2**20), "50000")


async def test_whole_cores_are_its_own_set(opened: Callable) -> None:
    kit, backend = await opened()
    assert (await said(backend, kit.job(("nproc",), grant=Grant(cpus=(0,), numa=0)))).strip() == "1"


async def test_the_memory_limit_is_told_as_such_only_of_the_command_itself(opened: Callable) -> None:
    kit, backend = await opened()
    grant = Grant(memory=32 * 2**20)
    eats = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    ended, _ = await run(backend, kit.job(shell(f"exec {eats}"), grant=grant))
    assert (ended.code, ended.oom) == (137, True)
    ended, _ = await run(backend, kit.job(shell(f"{eats}; exit 0"), grant=grant))
    assert (ended.code, ended.oom) == (0, False)


async def test_a_fork_bomb_ends_at_its_own_expense(opened: Callable) -> None:
    kit, backend = await opened(most_processes=32)
    ended, found = await run(backend, kit.job(shell("for i in $(seq 100); do sleep 1000 & done; exit 3")))
    assert ended.code != 0
    assert b"fork" in found["stderr"]


async def test_the_profile_holds_inside(opened: Callable) -> None:
    kit, backend = await opened()
    status = await said(backend, kit.job(shell("grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status")))
    values = dict(line.split() for line in status.splitlines())
    assert values == {"CapEff:": "00000000000000fb", "CapBnd:": "00000000000000fb", "NoNewPrivs:": "1", "Seccomp:": "2"}
    ended, _ = await run(backend, kit.job(shell("mount -t tmpfs x /tmp")))
    assert ended.code != 0


async def test_directories_and_the_working_directory(opened: Callable, tmp_path: Path) -> None:
    kit, backend = await opened(mounts_allowed=[str(tmp_path / "data")])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("here")
    (tmp_path / "scratch").mkdir()
    job = kit.job(
        shell("pwd; cat file; touch /local_temp/made; touch no 2>/dev/null || echo ' read only'"),
        workdir="/data",
        mounts=(Mount(source=tmp_path / "scratch", target="/local_temp"),),
        options=Options(mounts=(f"{tmp_path}/data:/data:ro",)),
    )
    assert await said(backend, job) == "/data\nhere read only\n"
    assert (tmp_path / "scratch/made").exists()
    refused = kit.job(("true",), options=Options(mounts=("/etc:/x",)))
    assert "not below" in (await backend.check(refused))[0]


async def test_networks(opened: Callable) -> None:
    kit, backend = await opened(network="private")
    links = "sed -n s/:.*//p /proc/net/dev | tr -d ' ' | sort"
    assert await said(backend, kit.job(shell(links))) == "eth0\nlo\n"
    assert await said(backend, kit.job(shell(links), options=Options(network="none"))) == "lo\n"
    network = networks(kit)
    assert len(network) == 1
    kit.dockerd.docker("network", "rm", *network)


async def test_the_first_tasks_of_a_node_share_one_network_when_they_come_together(opened: Callable) -> None:
    kit, backend = await opened(network="private")
    handles = await asyncio.gather(*(backend.create(kit.job(("true",))) for _ in range(8)))
    network = networks(kit)
    for handle in handles:
        await backend.remove(handle)
    kit.dockerd.docker("network", "rm", *network)
    assert len(network) == 1


def networks(kit: DockerKit) -> list[str]:
    return kit.dockerd.docker("network", "ls", "-q", "--filter", f"label=kohakuriver.runner=c/{kit.node}").split()


async def test_two_runners_and_a_stranger_on_one_daemon(opened: Callable) -> None:
    """Neither sees, ends or removes what is the others'."""
    one_kit, one = await opened()
    two_kit, two = await opened()
    strangers = one_kit.dockerd.docker(
        "run", "-d", "--network", "none", "kohakuriver.test/busybox:1", "sleep", "600"
    ).strip()
    try:
        first, first_run = await begin(one, one_kit.job(one_kit.programs.sleep(), instance="7.1"))
        second, _ = await begin(two, two_kit.job(two_kit.programs.sleep(), instance="7.1"))
        assert [handle for _, handle in await one.found()] == [first]
        assert [handle for _, handle in await two.found()] == [second]
        await one.stop(first, first_run, 0)
        await one.remove(first)
        assert (await two.see(second)).phase == "running"
        assert list(await one.found()) == []
        running = one_kit.dockerd.docker("ps", "-q", "--no-trunc").split()
        assert strangers in running
    finally:
        one_kit.dockerd.docker("rm", "-f", strangers)


async def test_an_image_that_cannot_be_had_is_told(opened: Callable) -> None:
    kit, backend = await opened()
    notes: list[str] = []

    def progress(note: str, done: int | None = None, total: int | None = None) -> None:
        notes.append(note)

    here = Image(kind="oci", reference="kohakuriver.test/busybox:1")
    await backend.prepare(here, progress)
    assert notes == []
    with pytest.raises(PluginError, match=r"127.0.0.1:1/nothing:1 was not fetched.*refused"):
        await backend.prepare(Image(kind="oci", reference="127.0.0.1:1/nothing:1"), progress)
    assert notes == ["fetching 127.0.0.1:1/nothing:1"]
    with pytest.raises(PluginError, match="cannot be fetched"):
        await backend.prepare(Image(kind="oci", reference="sha256:" + "0" * 64), progress)
    job = kit.job(("true",), image=Image(kind="oci", reference="nothing.test/nothing:1"))
    with pytest.raises(PluginError, match=r"(?i)no such image"):
        await backend.create(job)


async def test_a_container_that_came_to_be_after_all_is_cleared_away(opened: Callable) -> None:
    kit, backend = await opened()
    job = kit.job(kit.programs.sleep())
    kit.dockerd.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await backend.create(job)
    kit.dockerd.thaw()
    while backend._bodies.doubtful:
        await asyncio.sleep(0.05)
        assert (await backend.probe()).usable
        if kit.dockerd.docker("ps", "-aq", "--filter", f"name={kit.name(job)}"):
            backend._bodies.doubtful.add(job.instance)
    assert list(await backend.found()) == []


async def test_what_it_used_is_measured(opened: Callable) -> None:
    kit, backend = await opened()
    handle, started = await begin(backend, kit.job(shell("echo up; i=0; while :; do i=$((i+1)); done")))
    await until_up(backend, handle, started)
    seen = (await backend.stats([handle]))[handle.data["instance"]]
    while (later := (await backend.stats([handle]))[handle.data["instance"]]).cpu_seconds == seen.cpu_seconds:
        await asyncio.sleep(0.05)
    assert later.cpu_seconds > (seen.cpu_seconds or 0)
    assert later.memory
    await backend.stop(handle, started, 0)
    assert (await backend.stats([handle]))[handle.data["instance"]].cpu_seconds >= later.cpu_seconds


async def test_the_daemon_is_not_asked_at_every_heartbeat_what_a_container_used(
    opened: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, backend = await opened()
    handle, started = await begin(backend, kit.job(shell("echo up; sleep 1000")))
    await until_up(backend, handle, started)
    asked: list[str] = []
    look = backend._bodies.look

    async def counted(name: str) -> Container:
        asked.append(name)
        return await look(name)

    monkeypatch.setattr(backend._bodies, "look", counted)
    instance = handle.data["instance"]
    for _ in range(3):
        assert (await backend.stats([handle]))[instance].memory
    assert len(asked) == 1
    await backend.stop(handle, started, 0)
    assert (await backend.stats([handle]))[instance].memory
    await backend.remove(handle)
    assert await backend.stats([handle]) == {}


async def test_output_is_read_on_from_the_log_after_a_restart_in_the_middle(opened: Callable) -> None:
    """The runner dies while much is written; the next one goes on from what was stored, to the byte."""
    kit, backend = await opened()
    handle, started = await begin(backend, kit.job(shell("seq 1 200000; echo half >&2; sleep 1; seq 200001 400000")))
    stored = bytearray()
    chunks = backend.output(handle, started, Offsets())
    async for chunk in chunks:
        if chunk.stream == "stdout":
            stored += chunk.data
        if len(stored) > 300_000:
            break
    await backend.close()
    async with kit.open() as again:
        async for chunk in again.output(handle, started, Offsets(stdout=len(stored))):
            if chunk.stream == "stdout":
                assert chunk.offset == len(stored)
                assert not chunk.at_least
                stored += chunk.data
        assert bytes(stored) == b"".join(b"%d\n" % number for number in range(1, 400_001))
        assert (await again.wait(handle, started)).code == 0
        await again.remove(handle)


@pytest.mark.parametrize("much", [0, 2**30], ids=["its beginning is known", "its beginning is not known"])
async def test_a_log_that_lost_its_beginning_is_told_as_such(
    opened: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, much: int
) -> None:
    """While the runner is away more is written than the daemon keeps: what is left is taken, and more may be missing."""
    monkeypatch.setitem(order.LOGS, "Config", {"max-size": "100k", "max-file": "2", "compress": "false"})
    monkeypatch.setattr(output, "KEPT", 100 * 1024)
    monkeypatch.setattr(output, "MUCH", much)
    kit, backend = await opened()
    (tmp_path / "scratch").mkdir()
    mount = Mount(source=tmp_path / "scratch", target="/local_temp")
    text = "echo first; while [ ! -e /local_temp/go ]; do sleep 0.05; done; seq 1 100000"
    handle, started = await begin(backend, kit.job(shell(text), mounts=(mount,)))
    chunks = backend.output(handle, started, Offsets())
    assert (await anext(chunks)).data == b"first\n"
    if not much:
        begins = kit.state / "begins" / handle.data["instance"]
        reading = asyncio.ensure_future(anext(chunks))
        while not begins.exists():
            await asyncio.sleep(0.02)
        reading.cancel()
        await asyncio.wait({reading})
    await backend.close()
    (tmp_path / "scratch/go").touch()
    async with kit.open() as again:
        await again.wait(handle, started)
        found = [chunk async for chunk in again.output(handle, started, Offsets(stdout=6))]
        data = b"".join(chunk.data for chunk in found)
        assert found[0].offset == 6
        assert any(chunk.at_least for chunk in found)
        assert data.endswith(b"99999\n100000\n")
        assert b"first" not in data
        assert 10_000 < len(data) < 500_000
        await again.remove(handle)


async def test_a_log_that_is_whole_is_known_to_be(opened: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MUCH", 0)
    kit, backend = await opened()
    handle, started = await begin(backend, kit.job(shell("seq 1 1000")))
    first = [chunk async for chunk in backend.output(handle, started, Offsets())]
    again = [chunk async for chunk in backend.output(handle, started, Offsets(stdout=100))]
    assert b"".join(chunk.data for chunk in again) == b"".join(chunk.data for chunk in first)[100:]
    assert not any(chunk.at_least for chunk in again)
