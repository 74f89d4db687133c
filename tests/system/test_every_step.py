"""A kill and a pause hold at every step of a task's life; each step is made to last by what the link is not told."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from .cluster import end_all
from .conftest import Faulty
from .startlog import cpu_ticks, processes_of
from .talk import FINAL
from .waits import holds, until

#: stops for no polite word, has a child in a session of its own, and uses the CPU while it may run
STUBBORN = "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do :; done' & while :; do :; done"
WORK = ["sh", "-c", STUBBORN]
STEPS = ["pending", "assigned", "accepted", "started", "running", "paused", "resumed", "stopping"]


@pytest.fixture(autouse=True)
def _nothing_left(faulty: Faulty) -> Iterator[None]:
    yield
    end_all(faulty.cluster)


@contextmanager
def at_step(faulty: Faulty, step: str) -> Iterator[str]:
    """A task that stands at this step and goes no further inside the block, as the host sees it."""
    with ExitStack() as stack:
        if step == "pending":
            faulty.api.post("/api/v1/nodes/one/drain", {"reason": "test"})
            stack.callback(faulty.api.post, "/api/v1/nodes/one/undrain")
        elif step == "assigned":  # the node knows nothing of it
            stack.enter_context(faulty.ruled("drop", "assign", "down"))
        elif step in ("accepted", "started"):  # the node goes on, its reports do not arrive
            rule = faulty.proxy.rule("stall", "report", "up", matches=lambda told: told["what"] == step)
            stack.callback(faulty.proxy.withdraw, rule)
        task = faulty.api.submit(*WORK, cores=0, grace=1)
        if step == "pending":
            faulty.until_status(task, "pending")
        elif step == "assigned":
            faulty.until_status(task, "assigned")
        elif step in ("accepted", "started"):
            rule.wait_caught()
            until(lambda: processes_of(task), within=60, what="it runs on its node", tell=faulty.story)
        else:
            faulty.until_status(task, "running")
            if step in ("paused", "resumed"):
                faulty.api.change("pause", task)
                faulty.until_status(task, "paused")
            if step == "resumed":
                faulty.api.change("resume", task)
                faulty.until_status(task, "running")
            if step == "stopping":
                faulty.api.change("kill", task, {"grace": 3600})
                faulty.until_status(task, "stopping")
        yield task


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_holds_at_every_step(faulty: Faulty, step: str) -> None:
    with at_step(faulty, step) as task:
        answered = faulty.api.change("kill", task, {"grace": 1})
        assert answered["status"] in {"killed", "stopping"}
        until(lambda: not processes_of(task), within=60, what="no process is left", tell=lambda: faulty.told(task))
    ended = faulty.until_status(task, *FINAL, within=60)
    assert ended["status"] == "killed", faulty.told(task)
    holds(
        lambda: faulty.api.status(task) == "killed" and not processes_of(task),
        seconds=1.5,
        what="killed for good",
        tell=lambda: faulty.told(task),
    )


@pytest.mark.parametrize("step", [step for step in STEPS if step not in {"stopping", "paused"}])
def test_a_pause_holds_at_every_step(faulty: Faulty, step: str) -> None:
    with at_step(faulty, step) as task:
        faulty.api.change("pause", task)
        until(lambda: stands_still(task), within=60, what="none of its processes runs", tell=lambda: faulty.told(task))
    # nothing holds it up any more besides the pause
    holds(lambda: stands_still(task), seconds=2, what="none of its processes runs", tell=lambda: faulty.told(task))
    faulty.api.change("resume", task)
    faulty.until_status(task, "running")
    until(lambda: not stands_still(task), within=60, what="it goes on", tell=lambda: faulty.told(task))
    faulty.api.change("kill", task, {"grace": 0})
    faulty.until_status(task, "killed")


@pytest.mark.parametrize("late", [0, 1, 2, 4, 8, 15, 30, 60, 120], ids=lambda late: f"{late}ms")
def test_a_kill_holds_at_whatever_moment_of_the_start_it_comes(faulty: Faulty, late: int) -> None:
    task = faulty.api.submit(*WORK, cores=0, grace=0)
    time.sleep(late / 1000)
    faulty.api.change("kill", task)
    faulty.until_status(task, "killed", within=60)
    assert processes_of(task) == []
    holds(lambda: not processes_of(task), seconds=0.5, what="nothing starts after the kill")


@pytest.mark.parametrize("late", [0, 2, 8, 30, 120], ids=lambda late: f"{late}ms")
def test_a_pause_holds_at_whatever_moment_of_the_start_it_comes(faulty: Faulty, late: int) -> None:
    task = faulty.api.submit(*WORK, cores=0, grace=0)
    time.sleep(late / 1000)
    faulty.api.change("pause", task)
    until(lambda: stands_still(task), within=60, what="none of its processes runs", tell=lambda: faulty.told(task))
    holds(lambda: stands_still(task), seconds=1, what="none of its processes runs", tell=lambda: faulty.told(task))
    faulty.api.change("resume", task)
    faulty.until_status(task, "running")
    faulty.api.change("kill", task)
    faulty.until_status(task, "killed")


@pytest.mark.parametrize("killed", ["host", "runner", "both"])
@pytest.mark.parametrize("verb", ["kill", "pause"])
def test_an_acknowledged_wish_outlives_those_who_took_it(faulty: Faulty, verb: str, killed: str) -> None:
    task = faulty.api.submit(*WORK, cores=0, grace=0)
    faulty.until_status(task, "running")
    faulty.proxy.blackhole()
    runner = faulty.runners["one"].server
    try:
        faulty.api.change(verb, task)
        for server in {"host": [faulty.host], "runner": [runner], "both": [faulty.host, runner]}[killed]:
            server.again()
    finally:
        faulty.proxy.heal()
    if verb == "kill":
        faulty.until_status(task, "killed", within=60)
        assert processes_of(task) == []
    else:
        faulty.until_status(task, "paused", within=60)
        holds(lambda: stands_still(task), seconds=1, what="none of its processes runs")
        faulty.api.change("kill", task)
        faulty.until_status(task, "killed")
    faulty.until_online("one")


def stands_still(task: str) -> bool:
    """Whether no process of the task uses the CPU for a while; those that spin would."""
    pids = [process.pid for process in processes_of(task)]
    before = cpu_ticks(pids)
    time.sleep(0.3)
    return cpu_ticks([process.pid for process in processes_of(task)]) <= before
