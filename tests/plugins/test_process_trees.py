"""Nothing that a command started outlives it, and nothing of another command dies with it."""

from pathlib import Path

import pytest
from kohakuriver_process.shepherd import tree

from kohakuriver.testing.contracts.backend import until_up

from .process_kit import CAGED, MODES, PYTHON, begin, finish

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


#: waits inside the kernel for its child to begin a program, which that one never does (clone(2), CLONE_VFORK)
VFORK = """
import ctypes, os, platform, time
number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
if ctypes.CDLL(None).syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0:
    os.write(1, b"up\\n")
    time.sleep(1000)
"""


@pytest.mark.parametrize("mode", MODES)
async def test_what_waits_for_a_stopped_child_to_begin_is_paused_as_well(opened, mode: str) -> None:
    kit, backend = await opened(limits=mode)
    handle, run = await begin(backend, kit.job((PYTHON, "-I", "-S", "-c", VFORK)))
    await until_up(backend, handle, run)
    await backend.pause(handle, run)
    assert (await backend.see(handle)).phase == "paused"
    await backend.resume(handle, run)
    await backend.pause(handle, run)
    await backend.stop(handle, run, 0)
    assert (await backend.wait(handle, run)).signal == 9


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
