"""What only plain processes have: the shepherd's life and death, escapees, real limits, real output."""

import asyncio
import json
import os
import pwd
import resource
import shutil
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from kohakuriver_process import means, systemd
from kohakuriver_process.backend import ProcessBackend
from kohakuriver_process.config import Options, Settings
from kohakuriver_process.shepherd import groups, tree

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Grant, Handle, Job, Offsets
from kohakuriver.testing.contracts.backend import collect, until_up

from .process_kit import MODES, ProcessKit, marked

CAGED = [mode for mode in MODES if mode in ("cgroup1", "cgroup2", "systemd")]
PYTHON = sys.executable
#: leaves its parent, its session and its group; says its own pid in a file and sleeps
ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
print("up", flush=True)
"""


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


async def begin(backend: ProcessBackend, job: Job) -> tuple[Handle, str]:
    assert list(await backend.check(job)) == []
    handle = await backend.create(job)
    return handle, await backend.start(handle, job)


async def finish(backend: ProcessBackend, job: Job):
    handle, run = await begin(backend, job)
    return await backend.wait(handle, run), await collect(backend, handle, run)


def shepherd_of(backend: ProcessBackend) -> int:
    return int(backend._client.hello["pid"])


async def end(pid: int) -> None:
    """Kills a process and returns when it is gone."""
    fd = os.pidfd_open(pid)
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(fd, lambda: over.done() or over.set_result(None))
    os.kill(pid, signal.SIGKILL)
    await over
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)


# The runner dies, the shepherd lives


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


# Whole trees


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("environment", [None, {}])
async def test_an_escapee_dies_with_its_command(opened, tmp_path: Path, mode: str, environment) -> None:
    kit, backend = await opened(limits=mode)
    file = tmp_path / "escapee"
    scrub = () if environment is None else ("env", "-i")
    ended, _ = await finish(backend, kit.job((*scrub, PYTHON, "-I", "-S", "-c", ESCAPE, str(file))))
    assert ended.code == 0
    assert tree.look(int(file.read_text())) is None


@pytest.mark.parametrize("mode", MODES)
async def test_an_escapee_is_paused_and_stopped_with_its_command(opened, tmp_path: Path, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    file = tmp_path / "escapee"
    job = kit.job((PYTHON, "-I", "-S", "-c", ESCAPE + "time.sleep(1000)", str(file)))
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    escapee = tree.look(int(file.read_text()))
    await backend.pause(handle, run)
    if mode not in CAGED:
        assert tree.look(escapee.pid).state == "T"
    await backend.resume(handle, run)
    await backend.stop(handle, run, 0)
    assert not tree.alive(escapee.pid, escapee.start)


@pytest.mark.parametrize("mode", MODES)
async def test_the_end_of_one_command_leaves_the_children_of_another_alone(opened, tmp_path: Path, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    file = tmp_path / "escapee"
    other = kit.job((PYTHON, "-I", "-S", "-c", ESCAPE + "time.sleep(1000)", str(file)))
    handle, run = await begin(backend, other)
    await until_up(backend, handle, run)
    assert (await finish(backend, kit.job(("sh", "-c", "sleep 1000 & exit 3"))))[0].code == 3
    escapee = tree.look(int(file.read_text()))
    assert escapee is not None
    assert (await backend.see(handle)).phase == "running"
    await backend.stop(handle, run, 0)
    assert not tree.alive(escapee.pid, escapee.start)


# Limits


async def test_memory_beyond_the_limit_is_told_as_such(opened) -> None:
    for mode in CAGED:
        kit, backend = await opened(limits=mode)
        grant = Grant(memory=64 * 1024**2)
        job = kit.job((PYTHON, "-I", "-S", "-c", "x = bytearray(300 << 20)"), grant=grant)
        if await backend.check(job):
            continue  # a tree without the memory controller
        ended, _ = await finish(backend, job)
        assert (ended.signal, ended.oom) == (9, True)
        fine, _ = await finish(backend, kit.job(("true",), grant=grant))
        assert (fine.code, fine.oom) == (0, False)


async def test_memory_by_rlimit_fails_in_the_program(opened) -> None:
    kit, backend = await opened(limits="rlimits")
    job = kit.job((PYTHON, "-I", "-S", "-c", "x = bytearray(300 << 20)"), grant=Grant(memory=128 * 1024**2))
    ended, output = await finish(backend, job)
    assert (ended.code, ended.oom) == (1, None)
    assert b"MemoryError" in output["stderr"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "none"])
async def test_pinned_processors_are_the_only_ones(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    cpu = max(os.sched_getaffinity(0))
    show = (PYTHON, "-I", "-S", "-c", "import os; print(sorted(os.sched_getaffinity(0)))")
    for grant in (Grant(cpus=(cpu,)), Grant(cpus=(cpu,), numa=0)):
        _, output = await finish(backend, kit.job(show, grant=grant))
        assert output["stdout"] == f"[{cpu}]\n".encode()
    _, output = await finish(backend, kit.job(show))
    assert output["stdout"] == f"{sorted(os.sched_getaffinity(0))}\n".encode()


@pytest.mark.skipif("cgroup1" not in MODES, reason="needs cgroup version 1 to write")
async def test_limits_stand_in_the_groups_of_version_1(opened) -> None:
    kit, backend = await opened(limits="cgroup1")
    grant = Grant(cpu_milli=1500, memory=256 * 1024**2, pids=50, cpus=(0,), numa=0)
    handle, run = await begin(backend, kit.job(("sleep", "1000"), grant=grant))
    name = f"{handle.data['shepherd']}.{handle.data['instance']}"
    pid = run.split("-")[0]
    found = {}
    for file in ("cpu.cfs_quota_us", "memory.limit_in_bytes", "pids.max", "cpuset.cpus", "cpuset.mems"):
        group = Path("/sys/fs/cgroup") / file.split(".")[0] / "kohakuriver" / name
        assert (group / "cgroup.procs").read_text().split() == [pid]
        found[file] = (group / file).read_text().strip()
    assert found == {
        "cpu.cfs_quota_us": "150000",
        "memory.limit_in_bytes": str(256 * 1024**2),
        "pids.max": "50",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
    }
    home = Path(f"/proc/{shepherd_of(backend)}/cgroup").read_text()
    assert name not in home


async def test_check_says_what_this_machine_cannot_hold(opened) -> None:
    kit, backend = await opened(limits="rlimits")
    job = kit.job(("true",))
    for grant, words in (
        (Grant(cpu_milli=1500), "whole cores"),
        (Grant(pids=5), "number of processes"),
        (Grant(disk=1), "disk"),
        (Grant(cpus=(9999,)), "9999"),
        (Grant(numa=77), "77"),
    ):
        (refusal,) = await backend.check(replace(job, grant=grant))
        assert words in refusal


async def test_on_a_systemd_machine_the_shepherd_lives_in_a_scope_and_bodies_below_it(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "cgroup2" not in MODES:
        pytest.skip("needs a tree of cgroup version 2 to write")
    top = Path(groups.mounted()[""]["top"])
    scope = top / f"scope-{os.getpid()}"
    program = tmp_path / "systemd-run"
    program.write_text(f'#!/bin/sh\nmkdir -p {scope} && echo $$ > {scope}/cgroup.procs && exec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setitem(means.FINDERS, "systemd", lambda: systemd.Systemd(prefix=(str(program),)))
    kit, backend = await opened(limits="systemd")
    job = kit.job(kit.programs.stubborn())
    handle, run = await begin(backend, job)
    body = scope / f"{handle.data['shepherd']}.{job.instance}"
    assert run.split("-")[0] in (body / "cgroup.procs").read_text().split()
    assert str(shepherd_of(backend)) in (scope / "shepherd" / "cgroup.procs").read_text().split()
    assert (await backend.probe()).facts["scope"] == str(scope)
    await backend.remove(handle)
    assert not body.exists()
    assert marked(job) == []
    await end(shepherd_of(backend))
    for directory in (scope / "shepherd", scope):
        directory.rmdir()


async def test_a_failure_inside_the_shepherd_is_logged_and_survived(opened) -> None:
    kit, backend = await opened()
    handle, run = await begin(backend, kit.job(("sleep", "1000")))
    with pytest.raises(PluginError, match="not understood"):
        await backend._client.ask("stop", instance=handle.data["instance"], run=run)
    with pytest.raises(PluginError, match="not understood"):
        await backend._client.ask("no such order")
    await backend.stop(handle, run, 0)
    assert (await backend.wait(handle, run)).signal == 9


async def test_a_workload_gets_the_usual_number_of_files(opened) -> None:
    kit, backend = await opened()
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    _, output = await finish(backend, kit.job((PYTHON, "-I", "-S", "-c", script)))
    assert output["stdout"].decode().strip() == str(resource.getrlimit(resource.RLIMIT_NOFILE))


# Who and where


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
async def test_run_as_gives_up_the_runners_rights(opened, mode: str) -> None:
    nobody = pwd.getpwnam("nobody")
    kit, backend = await opened(limits=mode, run_as="nobody")
    job = kit.job(("sh", "-c", "id -u; id -G; echo $HOME $USER; touch mine; stat -c %u mine"))
    ended, output = await finish(backend, job)
    assert ended.code == 0, output
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    lines = [str(nobody.pw_uid), groups, f"{nobody.pw_dir} nobody", str(nobody.pw_uid)]
    assert output["stdout"].decode().splitlines() == lines


async def test_an_unknown_run_as_makes_the_backend_unusable(opened) -> None:
    kit, backend = await opened(run_as="no-such-user-here")
    probe = await backend.probe()
    assert not probe.usable
    assert any("no-such-user-here" in problem for problem in probe.problems)
    assert await backend.check(kit.job(("true",)))


async def test_a_cluster_runner_has_it_off_unless_told(opened) -> None:
    kit, backend = await opened(enabled=False)
    assert not (await backend.probe()).usable
    assert any("off" in word for word in await backend.check(kit.job(("true",))))
    assert Settings().enabled is False


async def test_wrong_settings_are_named(tmp_path: Path) -> None:
    kit = ProcessKit(tmp_path, limit="auto")
    with pytest.raises(PluginError, match="limit"):
        async with kit.open():
            raise AssertionError("opened")


async def test_options_are_few_and_checked(opened) -> None:
    kit, backend = await opened()
    _, output = await finish(backend, kit.job(("nice",), options=Options(nice=7)))
    assert int(output["stdout"]) == os.getpriority(os.PRIO_PROCESS, 0) + 7
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"nice": 20}, Options)


async def test_the_environment_is_small(opened) -> None:
    kit, backend = await opened()
    os.environ["LEAKED_FROM_THE_RUNNER"] = "yes"
    try:
        _, output = await finish(backend, kit.job(("env",), env={"MINE": "1"}))
    finally:
        del os.environ["LEAKED_FROM_THE_RUNNER"]
    names = {line.partition("=")[0] for line in output["stdout"].decode().splitlines()}
    assert {"PATH", "HOME", "USER", "MINE", "KOHAKURIVER_ATTEMPT"} <= names
    assert "LEAKED_FROM_THE_RUNNER" not in names


async def test_it_begins_in_a_clean_state(opened) -> None:
    kit, backend = await opened()
    script = (
        "import os, signal\n"
        "print(sorted(os.listdir('/proc/self/fd'), key=int)[:-1])\n"
        "print([s.name for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN])\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getsid(0) == os.getpid(), os.readlink('/proc/self/fd/0'))\n"
    )
    # Python itself ignores SIGPIPE and SIGXFSZ
    _, output = await finish(backend, kit.job((PYTHON, "-I", "-S", "-c", script)))
    assert output["stdout"].decode() == ("['0', '1', '2']\n['SIGPIPE', 'SIGXFSZ']\nset() True /dev/null\n"), output[
        "stderr"
    ]


async def test_a_script_with_an_interpreter_runs_and_one_without_is_an_error(opened) -> None:
    kit, backend = await opened()
    job = kit.job(())
    script = job.directory / "script"
    script.write_text("#!/bin/sh\necho $1 from $PWD\n")
    script.chmod(0o755)
    _, output = await finish(backend, replace(job, argv=(str(script), "hello")))
    assert output["stdout"].decode() == f"hello from {job.directory / 'work'}\n"
    bad = kit.job(())
    script.write_text("echo no interpreter\n")
    bad = replace(bad, argv=(str(script),))
    handle = await backend.create(bad)
    with pytest.raises(PluginError, match="exec format error"):
        await backend.start(handle, bad)


@pytest.mark.parametrize("mode", MODES)
async def test_a_start_that_fails_says_why_and_leaves_nothing(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    for fields, words in (
        ({"argv": ("/etc/passwd",)}, "permission denied"),
        ({"argv": ("no-such-program",)}, "no-such-program"),
        ({"argv": ("true",), "workdir": "/no/such/place"}, "/no/such/place"),
    ):
        job = replace(kit.job(()), **fields)
        handle = await backend.create(job)
        with pytest.raises(PluginError, match=words):
            await backend.start(handle, job)
        assert (await backend.see(handle)).phase == "created"
        await backend.remove(handle)
        assert kit.leftovers(job, handle) == []


# Output


async def test_a_flood_keeps_its_head_and_its_tail(opened) -> None:
    head, tail, last = 1024**2, 3 * 1024**2, 13_500_000
    kit, backend = await opened(output_head=head, output_tail=tail)
    handle, run = await begin(backend, kit.job(("seq", "1", str(last))))
    await backend.wait(handle, run)
    whole = b"".join(b"%d\n" % number for number in range(1, last + 1))
    assert len(whole) > 100 * 1024**2
    kept: list[tuple[int, bytes]] = []
    async for chunk in backend.output(handle, run, Offsets()):
        if kept and kept[-1][0] + len(kept[-1][1]) == chunk.offset:
            kept[-1] = (kept[-1][0], kept[-1][1] + chunk.data)
        else:
            kept.append((chunk.offset, chunk.data))
    assert kept == [(0, whole[:head]), (len(whole) - tail, whole[-tail:])]
    assert str(len(whole) - head - tail) in (await backend.see(handle)).note
    files = sum(path.stat().st_size for path in job_files(kit))
    assert files == head + tail


def job_files(kit: ProcessKit) -> list[Path]:
    return [path for path in (kit.directory / "jobs").rglob("*") if path.is_file()]


async def test_usage_is_told_while_it_runs_and_after(opened) -> None:
    kit, backend = await opened()
    job = kit.job(
        (PYTHON, "-I", "-S", "-c", "x = bytearray(50 << 20); print('up', flush=True); import time; time.sleep(1000)")
    )
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    during = (await backend.stats([handle]))[job.instance]
    await backend.stop(handle, run, 0)
    after = (await backend.stats([handle]))[job.instance]
    assert during.memory > 50 << 20
    assert after.memory_peak > 50 << 20
    assert after.cpu_seconds > 0
