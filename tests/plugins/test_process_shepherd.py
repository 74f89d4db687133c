"""The shepherd outlives its runner, is one for all, leaves when unused; and what its own death costs."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kohakuriver_process.shepherd.frames import pack

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Handle
from kohakuriver.testing.contracts.backend import collect, until_up

from .process_kit import MODES, PYTHON, begin, end, finish, marked, shepherd_of

# The runner dies, the shepherd lives


async def test_a_runner_that_goes_before_it_is_answered_takes_nobody_with_it(opened) -> None:
    """What is sent to a socket that nobody holds any more raises SIGPIPE, which would end the shepherd (send(2))."""
    kit, backend = await opened()
    handle, run = await begin(backend, kit.job(("sh", "-c", "while :; do sleep 0.1; done")))
    folder = os.open(kit.state, os.O_PATH)
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as impatient:
            impatient.connect(f"/proc/self/fd/{folder}/shepherd.sock")
            impatient.sendall(pack({"id": 1, "op": "list"}) * 50)
    os.close(folder)
    seen = await backend.see(handle)
    assert (seen.phase, seen.note) == ("running", "")
    await backend.stop(handle, run, 0)
    assert (await backend.wait(handle, run)).signal == signal.SIGKILL


async def test_a_runner_killed_in_mid_run_loses_neither_output_nor_exit_code(opened, tmp_path: Path) -> None:
    kit, backend = await opened()
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    job = kit.job(("sh", "-c", f"echo before; cat {fifo}; echo after; exit 5"))
    runner = f"""
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
sys.path.insert(0, {str(Path(__file__).parent)!r})
import importlib.util
spec = importlib.util.spec_from_file_location("process_kit", {str(Path(__file__).parent / "process_kit.py")!r})
kit_module = importlib.util.module_from_spec(spec); spec.loader.exec_module(kit_module)
from kohakuriver.hooks.values import Job
async def main():
    Path({str(tmp_path / "r")!r}).mkdir()
    kit = kit_module.ProcessKit(Path({str(tmp_path / "r")!r}))
    kit.state = Path({str(kit.state)!r})
    job = Job(instance={job.instance!r}, attempt={job.attempt!r}, owner="ada", argv={job.argv!r}, directory=Path({str(job.directory)!r}))
    async with kit.open() as backend:
        handle = await backend.create(job)
        run = await backend.start(handle, job)
        print(json.dumps([dict(handle.data), run]), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(PYTHON, "-c", runner, stdout=asyncio.subprocess.PIPE)
    data, run = json.loads(await process.stdout.readline())
    process.kill()
    await process.wait()
    handle = Handle(backend="process", data=data)
    assert (await backend.see(handle)).phase == "running"
    assert await backend.start(handle, job) == run
    await asyncio.to_thread(fifo.write_text, "between\n")
    ended = await backend.wait(handle, run)
    assert ended.code == 5
    assert (await collect(backend, handle, run))["stdout"] == b"before\nbetween\nafter\n"


async def test_there_is_one_shepherd_for_many_that_open_at_once(opened) -> None:
    kit, first = await opened()
    async with AsyncExitStack() as stack:
        backends = [first] + [await stack.enter_async_context(kit.open()) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            for backend in backends:
                group.create_task(backend.probe())
        assert len({shepherd_of(backend) for backend in backends}) == 1


async def test_an_unused_shepherd_leaves_and_one_with_a_body_stays(opened) -> None:
    kit, backend = await opened()
    handle = await backend.create(kit.job(("true",)))
    shepherd = shepherd_of(backend)
    await backend.close()
    async with kit.open() as again:
        assert (await again.see(handle)).phase == "created"
        assert shepherd_of(again) == shepherd
        await again.remove(handle)
    fd = os.pidfd_open(shepherd)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, over.set)
    await over.wait()
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)
    async with kit.open() as again:
        assert (await again.probe()).usable
        assert shepherd_of(again) != shepherd


async def test_a_shepherd_whose_state_was_deleted_leaves_once_nothing_runs(opened) -> None:
    kit, backend = await opened(idle_seconds=0.1)
    handle, run = await begin(backend, kit.job(("sleep", "1000")))
    fd = os.pidfd_open(shepherd_of(backend))
    shutil.rmtree(kit.state)
    await backend.stop(handle, run, 0)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, over.set)
    await over.wait()
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)
    kit.state.mkdir()


async def test_a_state_directory_with_a_long_name_works(opened, tmp_path: Path) -> None:
    kit, _ = await opened()
    kit.state = tmp_path / ("long" * 40)
    kit.state.mkdir()
    async with kit.open() as backend:
        assert (await finish(backend, kit.job(("true",))))[0].code == 0
        assert stat.S_IMODE((kit.state / "shepherd.sock").stat().st_mode) == 0o600
        for _, handle in await backend.found():
            await backend.remove(handle)


# The shepherd dies


async def test_nothing_is_started_in_the_name_of_a_dead_shepherd(opened) -> None:
    kit, backend = await opened()
    job = kit.job(("true",))
    handle = await backend.create(job)
    await end(shepherd_of(backend))
    with pytest.raises(PluginError, match="cannot be known"):
        await backend.start(handle, job)


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_dead_shepherd_left_running_is_seen_stopped_and_removed(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    job = kit.job(kit.programs.stubborn())
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    await end(shepherd_of(backend))
    seen = await backend.see(handle)
    assert (seen.phase, seen.run) == ("running", run)
    assert handle in dict(await backend.found()).values()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(backend.wait(handle, run))
        await asyncio.sleep(0)
        await backend.stop(handle, run, 0)
    assert waiting.result().code is None
    assert "shepherd" in waiting.result().reason
    assert marked(job) == []
    await backend.remove(handle)
    assert kit.leftovers(job, handle) == []
    assert (await backend.see(handle)).phase == "gone"


async def test_a_wait_survives_the_death_of_the_shepherd_and_says_what_is_lost(opened) -> None:
    kit, backend = await opened()
    job = kit.job(("sleep", "1000"))
    handle, run = await begin(backend, job)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(backend.wait(handle, run))
        await asyncio.sleep(0)
        await end(shepherd_of(backend))
        os.kill(int(run.split("-")[0]), signal.SIGKILL)
    assert (waiting.result().code, waiting.result().signal) == (None, None)
    assert waiting.result().reason
    assert (await backend.see(handle)).phase == "exited"


async def test_another_boot_is_no_exit_code(opened) -> None:
    kit, backend = await opened()
    handle, run = await begin(backend, kit.job(("true",)))
    await backend.wait(handle, run)
    await backend.close()
    kit.boot = "another"
    async with kit.open() as again:
        ended = await again.wait(handle, run)
        assert ended.code is None
        assert "machine" in ended.reason
        assert (await again.see(handle)).phase == "exited"
    kit.boot = handle.data["boot"]
