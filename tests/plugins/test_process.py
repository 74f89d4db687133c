"""Who a process runs as, where, with what, and what becomes of its output."""

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from kohakuriver_process.config import Options, Settings

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Offsets
from kohakuriver.testing.contracts.backend import until_up

from .process_kit import MODES, PYTHON, ProcessKit, begin, finish

# Who and where


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
