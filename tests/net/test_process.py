"""Helper commands end within their limit, and leave no process behind however they end."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from kohakuriver_process.shepherd import tree

from kohakuriver.net.process import TooMuchOutput, run_command


async def test_both_streams_and_the_code_come_back() -> None:
    done = await run_command(["sh", "-c", "echo out; echo err >&2; exit 3"], limit=10)
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


async def test_no_shell_looks_at_the_words() -> None:
    assert (await run_command(["echo", "$HOME; *"], limit=10)).stdout == b"$HOME; *\n"


async def test_input_is_given_and_may_be_ignored() -> None:
    big = os.urandom(3_000_000)
    assert (await run_command(["cat"], limit=10, input=big)).stdout == big
    assert (await run_command(["true"], limit=10, input=big)).code == 0
    assert (await run_command(["cat"], limit=10)).stdout == b""


async def test_the_environment_is_the_given_one() -> None:
    assert (await run_command(["/usr/bin/env"], limit=10, env={"A": "b"})).stdout == b"A=b\n"


async def test_a_signal_is_a_negative_code() -> None:
    assert (await run_command(["sh", "-c", "kill -9 $$"], limit=10)).code == -9


async def test_a_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        await run_command(["/no/such/program"], limit=10)


def _pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


def _script(file: Path) -> list[str]:
    return ["sh", "-c", f"sleep 1000 & echo $$ $! > {file}.new; mv {file}.new {file}; wait"]


async def _over(pids: list[int]) -> None:
    """Returns when these are dead: killed they are, but orphans are another's to wait for."""
    async with asyncio.timeout(60):
        while any((seen := tree.look(pid)) and seen.state not in "ZX" for pid in pids):
            await asyncio.sleep(0.01)


def _children() -> set[int]:
    return set(tree.children(os.getpid()) or ())


def _hold_up(file: Path) -> None:
    """Blocks until the file is there."""
    subprocess.run(["sh", "-c", f"until [ -e {file} ]; do :; done"], timeout=60, check=True)


async def _written(file: Path) -> None:
    async with asyncio.timeout(60):
        while not file.exists():
            await asyncio.sleep(0.01)


async def test_the_limit_ends_the_whole_group(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="did not end within"):
        await run_command(_script(tmp_path / "pids"), limit=0.5)
    await _over(_pids(tmp_path / "pids"))


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_command(_script(tmp_path / "pids"), limit=60))
        await _written(tmp_path / "pids")
        running.cancel()
    await _over(_pids(tmp_path / "pids"))


async def test_cancelling_while_it_is_being_started_ends_the_whole_group(tmp_path: Path) -> None:
    """Nobody but the loop knows of it then, and the loop is held up until it has a child."""
    before = _children()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(run_command(_script(tmp_path / "pids"), limit=60))
        while _children() <= before:
            await asyncio.sleep(0)
        _hold_up(tmp_path / "pids")
        running.cancel()
    await _over(_pids(tmp_path / "pids"))


async def test_a_child_that_keeps_the_pipe_is_bounded_by_the_limit_and_killed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        await run_command(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path / 'pid'}"], limit=0.5)
    await _over(_pids(tmp_path / "pid"))


async def test_too_much_output_is_an_error_and_ends_it() -> None:
    with pytest.raises(TooMuchOutput):
        await run_command(["cat", "/dev/zero"], limit=20, most=1_000_000)
