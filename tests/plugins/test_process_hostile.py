"""What a task may do that nobody hopes for: each ends in a clear and true state, and the shepherd lives on."""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from kohakuriver_process.shepherd import groups, tree

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Grant
from kohakuriver.testing.contracts.backend import collect, until_up

from .process_kit import CAGES, MODES, PYTHON, begin, finish, marked, shepherd_of

# Starts that fail


async def why_not(backend, job) -> str:
    """The reason why it does not start; nothing is left of it."""
    handle = await backend.create(job)
    with pytest.raises(PluginError) as caught:
        await backend.start(handle, job)
    assert (await backend.see(handle)).phase == "created"
    await backend.remove(handle)
    return caught.value.message


async def test_a_command_that_cannot_be_started_says_why(opened, tmp_path: Path) -> None:
    kit, backend = await opened()
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for program, words in (
        (str(orphan), "interpreter"),
        (str(plain), "permission denied"),
        (str(tmp_path), "permission denied"),
        (f"{plain}/below", "not a directory"),
        ("x" * 5000, "file name too long"),
        ("bin/\udcff", "no such file"),
    ):
        reason = await why_not(backend, kit.job((program,)))
        assert words in reason, reason
    for workdir, words in ((str(plain), "not a directory"), ("/no/such", "no such file"), ("x" * 5000, "too long")):
        reason = await why_not(backend, kit.job(("true",), workdir=workdir))
        assert words in reason, reason
        assert "working directory" in reason
    assert await backend.check(kit.job(("",))) == ["there is no command"]


@pytest.mark.parametrize("mode", MODES)
async def test_more_arguments_than_the_machine_takes_are_a_failed_start(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    word = "x" * 100_000
    for fields in (
        {"argv": ("true", "x" * 200_000)},
        {"argv": ("true",), "env": {"BIG": "x" * 200_000}},
    ):
        assert "argument list too long" in await why_not(backend, replace(kit.job(()), **fields))
    assert "too large" in await why_not(backend, kit.job(("true", *[word] * 100)))
    for env in ({"A=B": "c"}, {"A": "b\0c"}):
        assert "cannot start" in await why_not(backend, kit.job(("true",), env=env))
    assert (await finish(backend, kit.job(("true",))))[0].code == 0


# Processes that will not be held


@pytest.mark.parametrize("mode", CAGES)
async def test_a_fork_bomb_ends_at_its_limit_and_dies_whole(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode, most_processes=40)
    bomb = (
        "import os, time\nprint('up', flush=True)\nlast = time.monotonic() + 60\n"
        "while time.monotonic() < last:\n try: os.fork()\n except OSError: time.sleep(0.01)\n"
        " if os.getpid() % 97 == 0: os._exit(0)\n"
    )
    job = kit.job((PYTHON, "-I", "-S", "-c", bomb))
    if await backend.check(replace(job, grant=Grant(pids=40))):
        pytest.skip("needs a tree of cgroup version 2 to write")
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    (group,) = list(Path("/sys/fs/cgroup").glob(f"**/{handle.data['shepherd']}.{job.instance}/pids.max"))
    assert group.read_text().strip() == "40"
    await backend.stop(handle, run, 0)
    assert marked(job) == []
    assert (await backend.wait(handle, run)).signal == 9


#: ends by itself after a minute, so that a run that was broken off leaves nothing that nobody could catch
CHAIN = """
import os, sys, time
last = time.monotonic() + 60
if os.fork() == 0:
    while time.monotonic() < last:
        if os.fork(): os._exit(0)
        if sys.argv[1] == "setsid": os.setsid()
    os._exit(0)
print("up", flush=True)
if sys.argv[2] == "stay": time.sleep(1000)
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("session", ["", "setsid"])
@pytest.mark.parametrize("end", ["stay", "go"])
async def test_a_child_that_is_always_another_process_is_caught(opened, mode: str, session: str, end: str) -> None:
    kit, backend = await opened(limits=mode)
    job = kit.job((PYTHON, "-I", "-S", "-c", CHAIN, session, end))
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    if end == "stay":
        await backend.stop(handle, run, 0)
    assert (await backend.wait(handle, run)).code == (137 if end == "stay" else 0)
    assert marked(job) == []


@pytest.mark.parametrize("mode", MODES)
async def test_many_children_die_with_their_parent(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    many = "import os, time\nfor _ in range(400):\n if os.fork() == 0: time.sleep(1000)\nprint('up', flush=True)\n"
    job = kit.job((PYTHON, "-I", "-S", "-c", many))
    ended, output = await finish(backend, job)
    assert (ended.code, output["stdout"]) == (0, b"up\n")
    assert marked(job) == []


@pytest.mark.root
@pytest.mark.parametrize("mode", CAGES)
@pytest.mark.parametrize("end", ["stay", "go"])
async def test_a_task_of_root_that_leaves_its_group_is_ended_all_the_same(opened, mode: str, end: str) -> None:
    kit, backend = await opened(limits=mode)
    tops = [mount["own"] for mount in groups.mounted().values()]
    leave = "; ".join(f"echo $$ > {top}/cgroup.procs" for top in tops)
    job = kit.job(("sh", "-c", f"exec 2>/dev/null; {leave}; sleep 1000 & echo up; [ {end} = go ] || wait; exit 6"))
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    if end == "stay":
        await backend.stop(handle, run, 0)
    assert (await backend.wait(handle, run)).code == (137 if end == "stay" else 6)
    assert marked(job) == []


# Output


async def test_a_task_without_its_pipes_runs_on(opened, tmp_path: Path) -> None:
    kit, backend = await opened()
    os.mkfifo(tmp_path / "go")
    job = kit.job(("sh", "-c", f"echo last; exec >&- 2>&-; read word < {tmp_path}/go; exit 8"))
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    assert (await backend.see(handle)).phase == "running"
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    assert (await backend.wait(handle, run)).code == 8
    assert (await collect(backend, handle, run))["stdout"] == b"last\n"


async def test_a_stranger_with_the_pipe_does_not_keep_a_task_from_its_end(opened, tmp_path: Path) -> None:
    kit, backend = await opened()
    job = kit.job(
        ("sh", "-c", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; echo up; sleep 1000")
    )
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    with open(f"/proc/{(tmp_path / 'pid').read_text().strip()}/fd/1", "wb", buffering=0) as stranger:
        await backend.stop(handle, run, 0)
        assert (await backend.wait(handle, run)).signal == 9
        with pytest.raises(BrokenPipeError):
            stranger.write(b"too late")


# Signals to the shepherd


async def test_a_task_that_kills_the_shepherd_ends_without_a_code_and_with_a_reason(opened, tmp_path: Path) -> None:
    kit, backend = await opened()
    os.mkfifo(tmp_path / "go")
    job = kit.job(("sh", "-c", f"read word < {tmp_path}/go; kill -9 $PPID; sleep 1000"))
    handle, run = await begin(backend, job)
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(backend.wait(handle, run))
        while (await backend.see(handle)).note == "":
            await asyncio.sleep(0.01)
        seen = await backend.see(handle)
        assert (seen.phase, seen.run) == ("running", run)
        await backend.stop(handle, run, 0)
    assert (waiting.result().code, waiting.result().signal) == (None, None)
    assert "shepherd" in waiting.result().reason
    assert marked(job) == []
    assert (await finish(backend, kit.job(("sh", "-c", "exit 3"))))[0].code == 3


async def test_a_task_that_kills_the_shepherd_at_once_is_found_running(opened) -> None:
    kit, backend = await opened()
    job = kit.job(("sh", "-c", "kill -9 $PPID; sleep 1000"))
    handle = await backend.create(job)
    with contextlib.suppress(PluginError):  # unless the answer was quicker
        await backend.start(handle, job)
    while (seen := await backend.see(handle)).note == "":
        await asyncio.sleep(0.01)
    assert seen.phase == "running"
    await backend.stop(handle, seen.run, 0)
    ended = await backend.wait(handle, seen.run)
    assert ended.code is None
    assert "shepherd" in ended.reason
    assert marked(job) == []


async def test_a_shepherd_that_was_stopped_goes_on(opened) -> None:
    kit, backend = await opened()
    job = kit.job(("sh", "-c", "kill -STOP $PPID; exit 4"))
    handle = await backend.create(job)
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(backend.start(handle, job))
        while (process := tree.look(shepherd_of(backend))) is None or process.state not in "Tt":
            await asyncio.sleep(0.01)
        assert (await backend.probe()).usable
        run = await starting
    assert (await backend.wait(handle, run)).code == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD])
async def test_other_signals_do_not_take_the_shepherd_from_what_runs(opened, number: signal.Signals) -> None:
    kit, backend = await opened()
    ended, _ = await finish(backend, kit.job(("sh", "-c", f"kill -{int(number)} $PPID; sleep 0.1; exit 4")))
    assert ended.code == 4
