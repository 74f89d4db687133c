"""Hosts and runners die with kill -9 while tasks start and run: one start an attempt, every exit code, every byte."""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import pytest

from .cluster import Cluster, a_cluster
from .kills import check_all, is_at_a_start
from .startlog import Work
from .talk import FINAL, Talk
from .waits import until

CORES = len(os.sched_getaffinity(0))
SEED = 4
TASKS = 300
KILLS = 10
CLIENTS = 8


@pytest.fixture
def alone() -> Iterator[Cluster]:
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one")
        yield made


def test_300_tasks_while_host_and_runner_are_killed_ten_times_each(alone: Cluster) -> None:
    """Acceptance 4. Each kill waits for a moment in which one attempt is being started and another runs."""
    chance = random.Random(SEED)
    works = [
        Work(
            f"w{number}", chance.choice([0.0, 0.0, 0.1, 0.3, 0.6]), chance.choice([0, 100, 5000, 200_000]), number % 256
        )
        for number in range(TASKS)
    ]
    tasks: dict[str, Work] = {}
    submitting = threading.Thread(target=_submit_all, args=(alone, works, tasks), daemon=True)
    submitting.start()
    runner = alone.runners["one"].server
    moments = 0
    for number in range(2 * KILLS):
        moments += is_at_a_start(alone, ("assigned", "starting"))
        (alone.host if number % 2 else runner).again()
    submitting.join(120)
    assert not submitting.is_alive(), alone.story()
    assert len(tasks) == TASKS
    until(
        lambda: {view["status"] for view in alone.api.all_tasks().values()} <= FINAL,
        within=240, what="every task has ended", tell=alone.story,
    )  # fmt: skip
    assert moments == 2 * KILLS, f"only {moments} of the kills came while an attempt was being started"
    check_all(alone, tasks)


def _submit_all(cluster: Cluster, works: list[Work], tasks: dict[str, Work]) -> None:
    """One after the other, so that there is always something to start; the key makes asking again safe."""
    for work in works:
        body = {"command": work.command, "cores": 0, "name": work.name, "env": cluster.log.env}
        answer = cluster.api.persist(
            "POST", "/api/v1/tasks", body, within=60, **{"Idempotency-Key": f"all-{work.name}"}
        )
        assert answer.status == 201, answer.body
        tasks[answer.json["tasks"][0]] = work
        time.sleep(0.02)


def test_a_runner_that_restarts_takes_up_what_runs_and_touches_nothing(cluster: Cluster) -> None:
    works = [Work(f"r{number}", 4.0, 1000, number) for number in range(CORES)]
    tasks = {cluster.api.submit(*work.command, cores=0, env=cluster.log.env): work for work in works}
    for task in tasks:
        cluster.until_status(task, "running")
    runner = cluster.runners["one"].server
    assert runner.stop() == 0
    runner.start()
    cluster.until_online("one", within=60)
    for task in tasks:
        cluster.until_status(task, *FINAL)
    check_all(cluster, tasks)


@pytest.mark.parametrize("killed", [("host",), ("runner",), ("host", "runner")], ids="-and-".join)
def test_an_end_that_nobody_saw_is_told_in_full(cluster: Cluster, killed: tuple[str, ...]) -> None:
    """P5: the tasks end while one side, or both, lie dead."""
    works = [Work(f"{'-'.join(killed)}-{number}", 3.0, 90_000 * number, 100 + number) for number in range(CORES)]
    tasks = {cluster.api.submit(*work.command, cores=0, env=cluster.log.env): work for work in works}
    for task in tasks:
        cluster.until_status(task, "running")
    servers = {"host": cluster.host, "runner": cluster.runners["one"].server}
    for name in killed:
        servers[name].kill()
    until(lambda: all(cluster.log.ends_of(task) for task in tasks), within=60, what="they end", tell=cluster.story)
    for name in killed:
        servers[name].start()
    for task in tasks:
        cluster.until_status(task, *FINAL)
    check_all(cluster, tasks)


def test_no_acknowledged_submit_is_lost_by_a_host_killed_at_any_moment(alone: Cluster) -> None:
    """P1: 8 clients with idempotency keys; what was not answered is asked again."""
    alone.api.post("/api/v1/nodes/one/drain", {"reason": "they need not run"})
    acknowledged: dict[str, str] = {}
    stop = threading.Event()
    broken: list[str] = []
    clients = [
        threading.Thread(target=_client, args=(alone.api, number, acknowledged, stop, broken))
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    chance = random.Random(SEED)
    restarts = []
    for _ in range(12):
        time.sleep(chance.uniform(0.0, 0.7))
        alone.host.kill()
        began = time.monotonic()
        alone.host.start(wait=False)
        until(alone.api.alive, within=60, what="the host is back", tell=alone.host.story)
        restarts.append(time.monotonic() - began)
    stop.set()
    for client in clients:
        client.join(60)
    assert not broken
    views = alone.api.all_tasks()
    lost = [key for key, task in acknowledged.items() if task not in views]
    names = [view["name"] for view in views.values()]
    doubled = len(names) - len(set(names))
    print(
        f"acknowledged {len(acknowledged)}, lost {len(lost)}, doubled {doubled}, slowest restart {max(restarts):.2f} s"
    )
    assert len(acknowledged) > 100
    assert (lost, doubled) == ([], 0)


def _client(api: Talk, number: int, acknowledged: dict[str, str], stop: threading.Event, broken: list[str]) -> None:
    count = 0
    while not stop.is_set():
        count += 1
        name = f"c{number}-{count}"
        try:
            answer = api.persist(
                "POST", "/api/v1/tasks", {"command": ["true"], "name": name}, within=30, **{"Idempotency-Key": name}
            )
        except (OSError, HTTPException) as error:
            broken.append(f"{name}: {error!r}")
            return
        told: Any = json.loads(answer.body)
        if answer.status != 201:
            broken.append(f"{name}: {answer.status} {told}")
            return
        acknowledged[name] = told["tasks"][0]
