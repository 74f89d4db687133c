"""A host and two runners on machines of their own, joined over TLS with the printed commands; one of them is cut off."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .cluster import Cluster, a_cluster
from .kills import check_all
from .namespaces import Machine, machines
from .startlog import Work
from .talk import FINAL
from .waits import until

pytestmark = pytest.mark.netns

#: seconds of silence in the ordinary run; the promise is about ten minutes, which KOHAKURIVER_FULL_LENGTH=1 waits for
CUT_OFF = 600.0 if os.environ.get("KOHAKURIVER_FULL_LENGTH") else 38.0
CORES = len(os.sched_getaffinity(0))
SAYS = ["sh", "-c", "echo out; echo err >&2; exit 7"]


@dataclass(frozen=True)
class Three:
    cluster: Cluster
    wires: dict[str, Machine]


@pytest.fixture(scope="module")
def three() -> Iterator[Three]:
    with machines(3) as (first, second, third), a_cluster(bind=first.address, before=first.before) as made:
        made.start_host()
        made.add_runner("left", before=second.before)
        made.add_runner("right", before=third.before)
        yield Three(made, {"left": second, "right": third})


def submit(cluster: Cluster, work: Work, node: str) -> str:
    return cluster.api.submit(*work.command, targets=[node], cores=0, env=cluster.log.env, backend="process")


def test_the_printed_command_pins_the_certificate(three: Three) -> None:
    command = three.cluster.join_command("third")
    assert f"--url {three.cluster.url}" in command
    assert three.cluster.fingerprint in command


@pytest.mark.parametrize("name", ["left", "right"])
def test_exit_code_and_both_streams_of_either_node(three: Three, name: str) -> None:
    """Acceptance 3."""
    cluster = three.cluster
    done = cluster.cli("task", "submit", "--wait", "-t", name, "--backend", "process", "--", *SAYS)
    assert done.returncode == 7, done.stderr
    (task,) = [task for task, view in cluster.api.all_tasks().items() if view["node"] == name]
    assert cluster.cli("task", "logs", task).stdout == "out\n"
    assert cluster.cli("task", "logs", "--stderr", task).stdout == "err\n"


def test_a_node_that_is_cut_off_ends_its_tasks_in_silence_and_tells_all_when_it_is_back(three: Three) -> None:
    """Acceptance 5."""
    cluster, wire = three.cluster, three.wires["left"]
    ending = [Work(f"end-{number}", 10.0, 3000 + 400_000 * number, number) for number in range(max(1, CORES // 2))]
    staying = [Work(f"stay-{number}", CUT_OFF + 25, 3000, 50 + number) for number in range(CORES - len(ending))]
    tasks = {submit(cluster, work, "left"): work for work in ending + staying}
    for task in tasks:
        cluster.until_status(task, "running")
    wire.unplug()
    began = time.monotonic()
    cluster.until_node("left", "offline", within=45)
    queued = {submit(cluster, work, "left"): work for work in [Work("queued", 0.0, 10, 4)]}
    elsewhere = submit(cluster, Work("elsewhere", 0.0, 10, 3), "right")
    cluster.until_status(elsewhere, "failed")
    while time.monotonic() - began < CUT_OFF:
        for task in tasks:
            view = cluster.api.task(task)
            assert (view["status"], view["exit"]) == ("running", None), f"while its node is silent: {view}"
            assert view["unreachable"]
        time.sleep(1)
    ended = [task for task in tasks if cluster.log.ends_of(task)]
    assert len(ended) == len(ending), "those that end did so while the node was away"
    wire.plug()
    back = time.monotonic()
    cluster.until_node("left", "online", within=60)
    linked = time.monotonic()
    for task in ended:
        cluster.until_status(task, *FINAL, within=60)
    told = time.monotonic()
    for task in tasks | queued:
        cluster.until_status(task, *FINAL, within=60)
    check_all(cluster, tasks | queued)
    print(f"cut off {CUT_OFF:g} s; link back after {linked - back:.1f} s, all true {told - linked:.2f} s later")


def test_output_and_exit_code_outlive_the_node(three: Three) -> None:
    """Acceptance 3, the rest: the machine is gone with its disk, and is revoked."""
    cluster = three.cluster
    small = cluster.api.submit(*SAYS, targets=["right"], backend="process")
    big = Work("big", 0.0, 3_000_000, 9)
    large = submit(cluster, big, "right")
    for task in (small, large):
        cluster.until_status(task, *FINAL)
    until(lambda: archived(cluster, large), within=60, what="the large output is at the host", tell=cluster.story)
    runner = cluster.runners["right"]
    runner.server.kill()
    three.wires["right"].unplug()
    shutil.rmtree(runner.data)
    for gone in (lambda: None, lambda: cluster.cli("node", "revoke", "right", "--reason", "burnt down")):
        gone()
        assert cluster.cli("task", "logs", small).stdout == "out\n"
        assert cluster.cli("task", "logs", "--stderr", small).stdout == "err\n"
        assert cluster.cli("task", "wait", small).returncode == 7
        assert cluster.cli("task", "wait", large).returncode == 9
        for stream in ("stdout", "stderr"):
            assert hashlib.sha256(cluster.api.output(large, stream)).hexdigest() == getattr(big, stream)
    assert cluster.api.node("left")["status"] == "online"


def archived(cluster: Cluster, task: str) -> bool:
    """Whether the node was allowed to forget it: then nothing of it lies there alone."""
    return not any(task in path.name for path in cluster.runners["right"].data.rglob("*"))
