"""Limits as the kernel of this machine enforces them."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from kohakuriver_process import means, systemd
from kohakuriver_process.shepherd import groups

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Grant

from .process_kit import CAGED, MODES, PYTHON, begin, end, finish, marked, shepherd_of


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
