"""What cannot start yet waits and says why in numbers; what never can is refused at once, in numbers too."""

import os
import re
from collections.abc import Iterator

import pytest

from .cluster import Cluster, end_all
from .waits import until

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    end_all(cluster)


def why_it_waits(cluster: Cluster, task: str) -> str:
    """The reason, once the scheduler has looked at the task, which must not have started."""

    def look() -> str | None:
        view = cluster.api.task(task)
        assert view["status"] == "pending", cluster.told(task)
        return None if view["reason"]["code"] == "next" else view["reason"]["text"]

    return until(look, within=60, what="there is a reason")


def test_a_task_waits_for_cores_says_so_in_numbers_and_starts_when_they_are_free(cluster: Cluster) -> None:
    api = cluster.api
    holder = api.submit("sleep", "1000", cores=CORES)
    cluster.until_status(holder, "running")
    waits = api.submit("true", cores=CORES)
    behind = api.submit("true", cores=CORES)
    for task in (waits, behind):
        assert re.search(rf"\b{CORES}\b", why_it_waits(cluster, task))
    assert api.task(behind)["reason"]["ahead"] == 1
    explained = cluster.cli("task", "explain", waits)
    assert explained.returncode == 0
    assert "one" in explained.stdout
    assert re.search(rf"\b{CORES}\b", explained.stdout), explained.stdout
    api.change("kill", holder, {"grace": 0})
    for task in (waits, behind):
        assert cluster.until_status(task, "completed")["exit"]["code"] == 0


def test_a_task_waits_for_memory(cluster: Cluster) -> None:
    api = cluster.api
    there = api.node("one")["memory"]
    holder = api.submit("sleep", "1000", cores=0, memory=there // 2)
    cluster.until_status(holder, "running")
    waits = api.submit("true", cores=0, memory=there // 2 + 1024**2 * 64)
    assert re.search(r"\d", why_it_waits(cluster, waits))
    api.change("kill", holder, {"grace": 0})
    cluster.until_status(waits, "completed")


def test_what_never_fits_is_refused_with_what_there_is(cluster: Cluster) -> None:
    api = cluster.api
    before = set(api.all_tasks())
    refused = cluster.cli("task", "submit", "-c", str(CORES + 1), "--", "true")
    assert refused.returncode == 5, refused.stderr
    assert re.search(rf"\b{CORES}\b", refused.stderr), refused.stderr
    assert re.search(rf"\b{CORES + 1}\b", refused.stderr), refused.stderr
    for fields in ({"memory": 2**55}, {"devices": {"count": 3}}, {"targets": ["one"], "cores": CORES + 5}):
        answer = api.ask("POST", "/api/v1/tasks", {"command": ["true"], **fields})
        assert answer.status == 422, answer.body
        assert answer.json["code"] == "never_fits"
        assert re.search(r"\d", answer.json["detail"]), answer.json
    assert api.ask("POST", "/api/v1/tasks", {"command": ["true"], "targets": ["nowhere"]}).status == 404
    assert set(api.all_tasks()) == before


def test_a_task_of_a_node_that_is_away_waits_until_it_is_back(cluster: Cluster) -> None:
    runner = cluster.runners["one"].server
    runner.stop()
    try:
        cluster.until_node("one", "suspect", within=60)
        task = cluster.api.submit("true", targets=["one"])
        assert "one" in why_it_waits(cluster, task)
    finally:
        runner.start()
    assert cluster.until_status(task, "completed")["attempt"] == 1


def test_a_drained_node_gives_its_reason_and_goes_on_with_what_runs(cluster: Cluster) -> None:
    running = cluster.api.submit("sleep", "3", cores=0)
    cluster.until_status(running, "running")
    assert cluster.cli("node", "drain", "one", "--reason", "new disk").returncode == 0
    try:
        task = cluster.api.submit("true", cores=0)
        assert "new disk" in why_it_waits(cluster, task)
        cluster.host.again()
        cluster.until_online("one")
        assert cluster.api.task(task)["status"] == "pending"
        cluster.until_status(running, "completed")
    finally:
        assert cluster.cli("node", "undrain", "one").returncode == 0
    until(lambda: cluster.api.status(task) == "completed", within=60, what="it starts", tell=cluster.story)
