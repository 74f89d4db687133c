"""The link between host and runner fails in every way: messages lost, doubled and late, silence, a node cut off."""

import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from .cluster import a_cluster, end_all
from .conftest import Faulty
from .faultproxy import behind_a_proxy
from .kills import check_all
from .startlog import Work, processes_of
from .talk import FINAL
from .waits import holds, until

#: what a lost, doubled or late message of either side must not change
FAULTS = [
    ("drop", "assign", "down"),
    ("double", "assign", "down"),
    ("delay", "assign", "down"),
    ("cut", "assign", "down"),
    ("cut", "wanted", "down"),
    ("drop", "ack", "down"),
    ("double", "ack", "down"),
    ("cut", "ack", "down"),
    ("drop", "forget", "down"),
    ("double", "forget", "down"),
    ("drop", "dial", "down"),
    ("double", "dial", "down"),
    ("double", "report", "up"),
    ("delay", "report", "up"),
    ("cut", "report", "up"),
    ("cut", "hello", "up"),
    ("cut", "welcome", "down"),
    ("cut", "inventory", "up"),
]


@pytest.fixture(autouse=True)
def _nothing_left(faulty: Faulty) -> Iterator[None]:
    yield
    faulty.proxy.heal()
    faulty.runners["one"].server.again()  # it waits longer after each break, and the next test is not about that
    faulty.until_online("one")
    end_all(faulty.cluster)


@pytest.mark.parametrize(("action", "tag", "way"), FAULTS, ids=lambda word: word)
def test_one_message_that_fails_changes_no_result(faulty: Faulty, action: str, tag: str, way: str) -> None:
    """Each fault strikes twice, where that can be, while a small task and one whose output needs a stream go through their lives."""
    works = [Work(f"{action}-{tag}-small", 0.2, 500, 41), Work(f"{action}-{tag}-large", 0.0, 300_000, 0)]
    with faulty.ruled(action, tag, way, times=1 if tag in ("dial", "forget") else 2, seconds=1.0) as rule:
        tasks = {faulty.api.submit(*work.command, cores=0, env=faulty.log.env): work for work in works}
        if tag in ("wanted", "hello", "welcome", "inventory"):
            faulty.proxy.reset()
        for task in tasks:
            faulty.until_status(task, *FINAL, within=40)
        if tag == "forget":  # said again at the beginning of a session
            until(lambda: rule.seen, within=60, what="it was told to forget")
            faulty.proxy.reset()
        until(lambda: all(archived(faulty, task) for task in tasks), within=40, what="archived", tell=faulty.story)
        assert rule.seen, f"no {tag} came by"
    check_all(faulty.cluster, tasks)


@pytest.mark.parametrize("what", ["accepted", "started", "exited"])
@pytest.mark.parametrize("action", ["cut", "double"])
def test_each_report_of_a_life_may_fail(faulty: Faulty, action: str, what: str) -> None:
    work = Work(f"{action}-{what}", 0.1, 100, 3)
    with faulty.ruled(action, "report", "up", times=3, matches=lambda told: told["what"] == what) as rule:
        task = faulty.api.submit(*work.command, cores=0, env=faulty.log.env)
        faulty.until_status(task, *FINAL, within=40)
        assert rule.seen
    check_all(faulty.cluster, {task: work})


def test_a_kill_whose_message_is_lost_is_sent_again(faulty: Faulty) -> None:
    task = faulty.api.submit("sleep", "1000", cores=0)
    faulty.until_status(task, "running")
    with faulty.ruled("drop", "wanted", "down", times=1) as rule:
        faulty.api.change("kill", task)
        faulty.until_status(task, "killed", within=60)
        assert rule.seen


def test_a_link_that_breaks_all_the_time_loses_and_doubles_nothing(faulty: Faulty) -> None:
    works = [Work(f"often-{number}", 0.1, 2000, number) for number in range(30)]
    tasks = {faulty.api.submit(*work.command, cores=0, env=faulty.log.env): work for work in works}
    for _ in range(12):
        time.sleep(0.35)
        faulty.proxy.reset()
    for task in tasks:
        faulty.until_status(task, *FINAL, within=60)
    check_all(faulty.cluster, tasks)


@pytest.mark.parametrize("ways", [("up",), ("down",)], ids="-".join)  # both: test_three_machines.py
def test_silence_in_one_direction_is_silence(faulty: Faulty, ways: tuple[str, ...]) -> None:
    """The task ends meanwhile; nothing of it is final before the line heals, and everything soon after."""
    work = Work(f"silent-{'-'.join(ways)}", 3.0, 70_000, 17)
    task = faulty.api.submit(*work.command, cores=0, env=faulty.log.env)
    faulty.until_status(task, "running")
    faulty.proxy.blackhole(*ways)
    began = time.monotonic()
    faulty.until_node("one", "suspect", within=60)
    print(f"{ways}: suspect after {time.monotonic() - began:.1f} s")
    until(lambda: faulty.log.ends_of(task), within=60, what="it ends in silence")
    if ways == ("down",):
        faulty.until_status(task, "running", *FINAL)  # its words still arrive until the line is given up
    else:
        holds(lambda: faulty.api.status(task) == "running", seconds=2, what="not final before the node is back")
    faulty.proxy.heal()
    healed = time.monotonic()
    faulty.until_online("one", within=60)
    linked = time.monotonic()
    faulty.until_status(task, "failed", within=60)
    print(f"{ways}: link after {linked - healed:.1f} s, true {time.monotonic() - linked:.2f} s later")
    check_all(faulty.cluster, {task: work})


def test_a_runner_that_dies_is_suspect_and_its_work_goes_on(faulty: Faulty) -> None:
    task = faulty.api.submit("sleep", "1000", cores=0)
    faulty.until_status(task, "running")
    runner = faulty.runners["one"].server
    runner.kill()
    try:
        faulty.until_node("one", "suspect", within=60)
        view = faulty.api.task(task)
        assert (view["status"], view["unreachable"], view["exit"]) == ("running", True, None)
    finally:
        runner.start()
    faulty.until_online("one", within=60)
    assert len(processes_of(task)) == 1


def test_a_runner_that_hangs_is_noticed_and_taken_back(faulty: Faulty) -> None:
    runner = faulty.runners["one"].server
    runner.signal(signal.SIGSTOP)
    try:
        faulty.until_node("one", "suspect", within=60)
    finally:
        runner.signal(signal.SIGCONT)
    faulty.until_online("one", within=60)


def test_two_processes_cannot_be_the_same_node(faulty: Faulty) -> None:
    from .serving import run

    runner = faulty.runners["one"]
    done = run(["serve", "--role", "runner"], runner.env, within=30)
    assert done.returncode != 0
    assert str(runner.data) in done.stderr
    assert faulty.api.node("one")["status"] == "online"


def test_a_message_that_nobody_understands_ends_nothing(faulty: Faulty) -> None:
    """A stranger without a credential gets no further than the handshake."""
    with socket.create_connection(("127.0.0.1", faulty.port), 5) as stranger:
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        stranger.sendall(
            f"GET /link HTTP/1.1\r\nHost: 127.0.0.1:{faulty.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert stranger.recv(100).split()[1] == b"401"
    assert faulty.api.node("one")["status"] == "online"


def test_revoking_cuts_a_node_off_and_its_streams_and_touches_no_work() -> None:
    with a_cluster(heartbeat_interval_seconds=1.0) as made, behind_a_proxy(made) as proxy:
        task = made.api.submit("sh", "-c", "while :; do echo tick; sleep 0.1; done", cores=0)
        made.until_status(task, "running")
        connection = made.api.connect()
        headers = {"Authorization": f"Bearer {made.api.token}"}
        connection.request("GET", f"/api/v1/tasks/{task}/output/stdout?follow=1", headers=headers)
        following = connection.getresponse()
        assert following.status == 200
        assert following.read1(5)
        made.api.post("/api/v1/nodes/one/revoke", {"reason": "stolen"})
        until(lambda: proxy.open == 0, within=60, what="link and stream are cut", tell=made.story)
        connection.close()
        until(lambda: "revoked" in made.runners["one"].server.said(), within=60, what="the runner knows")
        assert made.api.ask("GET", "/api/v1/nodes/one").status in (200, 404)
        assert processes_of(task), "work is ended by a wish alone"
        credential = json.loads((made.runners["one"].data / "node.json").read_text())["credential"]
        again = made.api.signed_in(credential).ask("GET", "/link")
        assert again.status in (401, 403), again.body


def archived(faulty: Faulty, task: str) -> bool:
    """Whether the node was allowed to forget it."""
    return not any(task in path.name for path in (faulty.runners["one"].data / "output").rglob("*"))
