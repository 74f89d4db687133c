"""What a workload used is what its whole tree used, while it runs and after."""

from pathlib import Path

import pytest

from kohakuriver.hooks.values import Grant
from kohakuriver.testing.contracts.backend import until_up

from .process_kit import CAGES, MODES, PYTHON, begin, end, shepherd_of

MEBIBYTE = 1024**2
#: uses 0.2 s of processor time and 40 MiB, says so in a file, and does what the third word says
USE = """
import os, sys, time
held = bytearray(40 << 20)
while time.process_time() < 0.2: pass
open(sys.argv[1], "w").close()
if sys.argv[2] == "stay": time.sleep(1000)
"""
#: a child that is waited for, an orphan that ends by itself, a child and an orphan that are still there at the end
FAMILY = """
use() { "$PYTHON" -I -S -c "$USE" "$DIR/$1" "$2"; }
until_there() { while [ ! -e "$DIR/$1" ]; do sleep 0.02; done; }
use waited go
(use orphan go &)
(setsid "$PYTHON" -I -S -c "$USE" "$DIR/far" stay &)
use child stay &
for name in orphan far child; do until_there $name; done
echo up
until_there end
"""


def family(kit, directory: Path, **fields):
    env = {"PYTHON": PYTHON, "USE": USE, "DIR": str(directory)}
    return kit.job(("sh", "-c", FAMILY), env=env, **fields)


@pytest.mark.parametrize("mode", MODES)
async def test_the_whole_tree_is_counted_while_it_runs_and_after(opened, tmp_path: Path, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    job = family(kit, tmp_path)
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    during = (await backend.stats([handle]))[job.instance]
    (tmp_path / "end").touch()
    await backend.wait(handle, run)
    after = (await backend.stats([handle]))[job.instance]
    assert during.memory > 40 * MEBIBYTE
    assert after.cpu_seconds >= 0.75
    assert after.memory_peak >= during.memory_peak >= during.memory
    assert during.cpu_seconds >= 0.55


@pytest.mark.parametrize("mode", CAGES)
async def test_the_groups_count_where_they_can(opened, tmp_path: Path, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    job = family(kit, tmp_path, grant=Grant(memory=512 * MEBIBYTE))
    if await backend.check(job):
        job = family(kit, tmp_path)  # a tree without the memory controller
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    during = (await backend.stats([handle]))[job.instance]
    assert 80 * MEBIBYTE < during.memory < 400 * MEBIBYTE
    assert during.memory_peak >= 80 * MEBIBYTE
    await backend.stop(handle, run, 0)
    after = (await backend.stats([handle]))[job.instance]
    assert after.memory_peak >= 80 * MEBIBYTE
    assert after.cpu_seconds >= 0.75


async def test_the_largest_sum_that_was_seen_is_the_peak(opened, tmp_path: Path) -> None:
    kit, backend = await opened(limits="rlimits")
    job = family(kit, tmp_path)
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    seen = (await backend.stats([handle]))[job.instance].memory_peak
    await backend.stop(handle, run, 0)
    await backend.wait(handle, run)
    assert (await backend.stats([handle]))[job.instance].memory_peak == seen > 60 * MEBIBYTE


async def test_what_a_dead_shepherd_left_is_still_measured(opened) -> None:
    kit, backend = await opened()
    job = kit.job(
        (
            PYTHON,
            "-I",
            "-S",
            "-c",
            "x = bytearray(50 << 20); print('up', flush=True); input; import time; time.sleep(1000)",
        )
    )
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    await end(shepherd_of(backend))
    stats = (await backend.stats([handle]))[job.instance]
    assert stats.memory > 50 * MEBIBYTE
    assert stats.cpu_seconds > 0
    await backend.stop(handle, run, 0)
