"""Host, runner and both die by kill -9 before and after every commit of a task's life, one commit after the other."""

import contextlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from .cluster import Cluster, a_cluster
from .kills import check_all
from .startlog import Work, processes_of
from .talk import FINAL
from .waits import until

DYING = [sys.executable, "-P", str(Path(__file__).with_name("dying.py"))]
#: commits of a life at least: fewer were counted wrong
LEAST = {"host": 3, "runner": 5}
MOST = 30


@pytest.fixture(scope="module")
def frail() -> Iterator[Cluster]:
    """A host and the node `one`, which die when they are told to."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.host.program = DYING
        made.host.env = {**made.host.env, "DYING": str(made.top / "host.dies")}
        made.start_host()
        runner = made.add_runner("one", start=False).server
        runner.program = DYING
        runner.env = {**runner.env, "DYING": str(made.top / "runner.dies")}
        runner.start()
        made.until_online("one")
        yield made


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("other", ["alone", "both"])
@pytest.mark.parametrize("role", ["host", "runner"])
def test_it_dies_at_every_commit_of_a_life(frail: Cluster, role: str, other: str, when: str) -> None:
    """The other one is killed at the same moment where both are to die. Small outputs ride with the exit and big ones
    are fetched, which are other commits.
    """
    size = 90_000 if other == "both" else 500
    for step in range(1, MOST):
        work = Work(f"{role}-{other}-{when}-{step}", 0.0, size, step)
        if not _a_life(frail, role, other == "both", when, step, work):
            break
    assert LEAST[role] < step < MOST, frail.story()


def _a_life(cluster: Cluster, role: str, both: bool, when: str, step: int, work: Work) -> bool:
    """One task from submit until nothing is left of it; whether the server died in it."""
    servers = {"host": cluster.host, "runner": cluster.runners["one"].server}
    server = servers.pop(role)
    (rest,) = servers.values()
    orders = Path(server.env["DYING"])
    orders.write_text(json.dumps({"step": step, "when": when, "case": work.name}))
    body = {"command": work.command, "cores": 0, "env": cluster.log.env, "name": work.name}
    with contextlib.suppress(OSError, HTTPException):
        cluster.api.ask("POST", "/api/v1/tasks", body, **{"Idempotency-Key": work.name})
    until(
        lambda: not server.runs or _over(cluster, work.name),
        within=60, what=f"{role} dies {when} commit {step}, or the task is over", tell=cluster.story,
    )  # fmt: skip
    orders.unlink()
    died = not server.runs
    if died:
        if both:
            rest.kill()
            rest.start(wait=False)
        server.start()
    answer = cluster.api.persist("POST", "/api/v1/tasks", body, **{"Idempotency-Key": work.name})
    assert answer.status == 201, answer.body
    (task,) = answer.json["tasks"]
    until(lambda: _over(cluster, work.name), within=60, what="the task is over", tell=lambda: cluster.told(task))
    check_all(cluster, {task: work})
    assert not processes_of(task)
    return died


def _over(cluster: Cluster, name: str) -> bool:
    """Whether the host knows its end and the runner holds nothing of it any more."""
    try:
        found = cluster.api.get(f"/api/v1/tasks?name={name}")["items"]
    except (OSError, HTTPException):
        return False
    if not found or found[0]["status"] not in FINAL:
        return False
    journal = cluster.runners["one"].data / "runner.db"
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=60)) as connection:
        return not connection.execute(
            "SELECT 1 FROM attempts WHERE attempt LIKE ?", (found[0]["id"] + ".%",)
        ).fetchall()
