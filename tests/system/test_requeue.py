"""A node is cut off: what is fenced ends there by itself and begins elsewhere, never two at once; the rest goes on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, a_cluster
from .faultproxy import FaultProxy, behind_a_proxy
from .startlog import processes_of
from .waits import holds, until

#: takes a lock that dies with its process, so that two at once are seen however short it is
PROGRAM = r"""
import fcntl, os, sys, time
def note(what):
    fd = os.open(os.environ["STARTLOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, f"{os.environ['KOHAKURIVER_ATTEMPT']} {what} {os.getpid()}\n".encode())
    os.close(fd)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    note("overlap")
note("start")
print("attempt", os.environ["KOHAKURIVER_ATTEMPT"], flush=True)
time.sleep(float(sys.argv[2]))
"""
#: long enough for a runner to start again on a busy machine
LEASE, MARGIN = 20, 8


class Pair:
    """Nodes `one`, behind a line that can be cut, and `two`."""

    def __init__(self, cluster: Cluster, proxy: FaultProxy) -> None:
        self.cluster = cluster
        self.proxy = proxy

    def submit(self, *, seconds: float, **fields: object) -> str:
        lock = self.cluster.top / "task.lock"
        command = [sys.executable, "-S", "-E", "-c", PROGRAM, str(lock), str(seconds)]
        return self.cluster.api.submit(*command, env=self.cluster.log.env, **fields)

    def said(self, task: str, what: str) -> list[str]:
        return [
            attempt for attempt, word in self.cluster.log.lines() if word == what and attempt.startswith(f"{task}.")
        ]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    settings = {"heartbeat_interval_seconds": 0.5, "lease": f"{LEASE}s", "lease_margin": f"{MARGIN}s"}
    with a_cluster(**settings) as made, behind_a_proxy(made) as proxy:
        yield Pair(made, proxy)


def test_what_is_fenced_moves_and_what_is_not_stays(pair: Pair) -> None:
    cluster, api = pair.cluster, pair.cluster.api
    fenced = pair.submit(seconds=1000, cores=0, requeue=True)
    plain = api.submit("sleep", "1000", cores=0, targets=["one"])
    for task in (fenced, plain):
        cluster.until_status(task, "running", within=60)
    first = until(lambda: pair.said(fenced, "start"), within=30, what="it began")[-1]
    stays = [process.pid for process in processes_of(plain)]
    cluster.add_runner("two")
    pair.proxy.blackhole("up", "down")

    until(lambda: not processes_of(fenced), within=90, what="its node ends it", tell=cluster.story)
    assert api.task(fenced)["attempt"] == int(first.rpartition(".")[2]), "no other attempt before it has ended"
    second = until(
        lambda: [attempt for attempt in pair.said(fenced, "start") if attempt != first],
        within=90, what="it begins elsewhere", tell=cluster.story,
    )[-1]  # fmt: skip
    view = cluster.until_status(fenced, "running", within=60)
    assert (view["node"], f"{fenced}.{view['attempt']}") == ("two", second)
    assert api.task(plain)["status"] == "running"

    pair.proxy.heal()
    cluster.until_online("one", within=60)
    until(lambda: not bodies(cluster, "one", first), within=60, what="the old body goes", tell=cluster.story)
    holds(lambda: api.status(fenced) == "running", seconds=1, what="a report of the old attempt changes nothing")
    assert [process.pid for process in processes_of(plain)] == stays
    assert pair.said(fenced, "overlap") == []
    assert len(processes_of(fenced)) == 1
    events = [event["what"] for event in api.history(fenced)]
    assert events.count("requeued") == 1
    assert api.output(fenced).decode() == f"attempt {second}\n"
    for task in (fenced, plain):
        api.change("kill", task, {"grace": 0})
        cluster.until_status(task, "killed", within=60)
    assert len(pair.said(fenced, "start")) == 2


def test_a_runner_that_comes_back_within_its_lease_keeps_what_it_has(pair: Pair) -> None:
    cluster = pair.cluster
    task = pair.submit(seconds=1000, cores=0, requeue=True, targets=["one"])
    cluster.until_status(task, "running", within=60)
    until(lambda: pair.said(task, "start"), within=30, what="it began")
    cluster.runners["one"].server.again()
    cluster.until_online("one", within=60)
    assert [process.pid for process in processes_of(task)]
    assert (cluster.api.task(task)["attempt"], pair.said(task, "start")) == (1, [f"{task}.1"])
    cluster.api.change("requeue", task)
    until(
        lambda: len(pair.said(task, "start")) == 2, within=60, what="another attempt", tell=lambda: cluster.told(task)
    )
    cluster.until_status(task, "running", within=60)
    assert pair.said(task, "overlap") == []
    cluster.api.change("kill", task, {"grace": 0})
    cluster.until_status(task, "killed", within=60)


def bodies(cluster: Cluster, node: str, attempt: str) -> list[Path]:
    return [path for path in (cluster.runners[node].data / "jobs").glob("*") if path.name == attempt]
