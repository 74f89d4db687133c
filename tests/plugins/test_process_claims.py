"""Whose processes are on a card: every process of a body is its own, by whatever way it went."""

import os

import pytest
from kohakuriver_process.shepherd import tree

from kohakuriver.domain.resources import Device
from kohakuriver.hooks.values import Grant
from kohakuriver.testing.contracts.backend import until_up

from .process_kit import MODES, PYTHON, begin, end, marked, shepherd_of

#: a child, and a grandchild in a session of its own whose parent has ended; the last says that all are up
FAMILY = """
import os, sys, time
if os.fork() == 0:
    time.sleep(1000)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    print("up", flush=True)
    time.sleep(1000)
time.sleep(1000)
"""


@pytest.mark.parametrize("limits", MODES)
async def test_all_of_a_body_is_claimed_by_it_alone(opened, limits: str) -> None:
    kit, backend = await opened(limits=limits)
    jobs = [kit.job((PYTHON, "-I", "-S", "-c", FAMILY)) for _ in range(2)]
    bodies = []
    for job in jobs:
        handle, run = await begin(backend, job)
        await until_up(backend, handle, run)
        bodies.append((handle, run))
    handles = [handle for handle, _ in bodies]
    members = [marked(job) for job in jobs]
    assert all(len(pids) >= 3 for pids in members)
    claimed = await backend.claim(handles, [*members[0], *members[1], os.getpid(), 2**22])
    assert claimed == {pid: job.instance for job, pids in zip(jobs, members, strict=True) for pid in pids}
    assert await backend.claim(handles[:1], members[1]) == {}


async def test_what_a_dead_shepherd_left_is_still_claimed(opened) -> None:
    kit, backend = await opened(limits="rlimits")
    job = kit.job((PYTHON, "-I", "-S", "-c", FAMILY))
    handle, run = await begin(backend, job)
    await until_up(backend, handle, run)
    main = int(run.partition("-")[0])
    await end(shepherd_of(backend))
    assert tree.look(main) is not None
    assert await backend.claim([handle], [main]) == {main: job.instance}


async def test_a_card_is_applied_and_one_without_a_driver_refused(opened) -> None:
    kit, backend = await opened()
    good = Device(id="0000:1a:00.0", uuid="GPU-1")
    passed_on = Device(id="0000:1b:00.0", modes=frozenset({"vfio"}))
    assert await backend.check(kit.job(("true",), grant=Grant(devices=(good,)))) == []
    (refusal,) = await backend.check(kit.job(("true",), grant=Grant(devices=(good, passed_on))))
    assert passed_on.id in refusal
