"""Containers while Docker restarts and keeps none of them: each ends by itself or is said to have been ended, and none runs twice.

What is written while no daemon is there to take it may be missing at the end; then that is said.
"""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from kohakuriver.testing.dockerd import Dockerd, a_daemon

from .boxes import Box, folder, start_log
from .cluster import Cluster, a_cluster
from .kills import is_at_a_start
from .talk import FINAL
from .waits import until

pytestmark = pytest.mark.docker

TASKS = 200 if os.environ.get("KOHAKURIVER_FULL_LENGTH") else 30
SEED = 5
ENDED = "the container runtime stopped or restarted while this ran"
CUT_SHORT = "started by a daemon that died"


@pytest.fixture
def node() -> Iterator[tuple[Cluster, Dockerd]]:
    with a_daemon() as daemon, a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        docker = {"socket": str(daemon.socket), "network": "none", "mounts_allowed": [str(folder(made))]}
        made.add_runner("one", docker={"enabled": True, **docker})
        yield made, daemon


def test_what_a_restart_ends_is_told_and_the_rest_is_exact(node: tuple[Cluster, Dockerd]) -> None:
    cluster, daemon = node
    chance = random.Random(SEED)
    works = [Box(f"r{n}", chance.choice([0.5, 1.0]), chance.choice([0, 10, 1000]), n % 100) for n in range(TASKS)]
    tasks = {cluster.api.post("/api/v1/tasks", work.body(cluster))["tasks"][0]: work for work in works}
    long = {}
    for end in (daemon.stop, daemon.kill):
        work = Box(f"long-{end.__name__}", 1000.0, 10, 1)
        (task,) = cluster.api.post("/api/v1/tasks", {**work.body(cluster), "priority": 100})["tasks"]
        cluster.until_status(task, "running", within=60)
        long[task] = work
        assert is_at_a_start(cluster)
        end()
        daemon.start()
    until(
        lambda: {view["status"] for view in cluster.api.all_tasks().values()} <= FINAL,
        within=300, what="every task has ended", tell=cluster.story,
    )  # fmt: skip
    starts = start_log(cluster).starts()
    views = cluster.api.all_tasks()
    wrong = [line for task, work in (tasks | long).items() for line in wrongs(cluster, views[task], work, starts)]
    assert not wrong, "\n".join(wrong[:20]) + "\n" + cluster.story()
    assert all(is_told(views[task]) for task in long), [views[task] for task in long]
    ended = [task for task in tasks if is_told(views[task])]
    assert len(ended) < TASKS / 2, [views[task]["exit"] for task in ended]


def is_told(view: dict[str, Any]) -> bool:
    reason = (view["exit"] or {}).get("reason") or ""
    return view["status"] == "failed" and (ENDED in reason or CUT_SHORT in reason)


def wrongs(cluster: Cluster, view: dict[str, Any], work: Box, starts: dict[str, int]) -> Iterator[str]:
    """What is not as promised of one task: exact, or told to have been ended by the runtime; started once in any case."""
    task = view["id"]
    ran = {attempt: count for attempt, count in starts.items() if attempt.partition(".")[0] == task}
    if any(count != 1 for count in ran.values()) or len(ran) > 1:
        yield f"{work.name}: started {ran}"
    for stream in ("stdout", "stderr"):
        answer = cluster.api.ask("GET", f"/api/v1/tasks/{task}/output/{stream}")
        lacks = is_told(view) or "x-at-least" in answer.headers
        good = work.said(stream).startswith(answer.body) if lacks else work.said(stream) == answer.body
        if answer.status != 200 or not good:
            yield f"{work.name}: {stream} of {len(answer.body)} bytes: {view}"
    if is_told(view):
        if view["exit"].get("code") not in (None, 137, 143):
            yield f"{work.name}: {view['exit']}"
        return
    if len(ran) != 1:
        yield f"{work.name}: never started: {view}"
    if (view["exit"] or {}).get("code") != work.code:
        yield f"{work.name}: exit {view['exit']} instead of {work.code}"
