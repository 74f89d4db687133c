"""`gpus`, `top` and the cordons of cards against the scripted host."""

import contextlib
import json
import os
import pty
import sys
import threading

import pytest

from kohakuriver.cli.main import run
from tests.client.scripted import Peer

CARD = {
    "node": "n1", "node_status": "online", "id": "0000:1a:00.0", "index": 0, "model": "NVIDIA A100", "uuid": "GPU-1",
    "driver": "550.1", "numa": 0, "usable": True, "memory": 80 * 2**30, "memory_used": 2**30, "utilization": 0.87,
    "temperature": 71.4, "power": 250.0, "power_limit": 400.0, "uncorrected": 0, "xid": None, "task": "4711",
    "name": "train", "owner": "ann", "status": "running", "idle": 0.0, "unused": False, "cordon": None, "processes": [],
}  # fmt: skip
FREE = {**CARD, "index": 1, "task": None, "name": None, "owner": None, "status": None}
MARK = {"device": CARD["id"], "index": 0, "reason": "gpu is lost", "since": "2026-01-02T03:04:05Z", "by": "node n1"}
USE = {
    "at": "2026-01-02T03:04:05Z", "more": 3, "waiting": 9,
    "nodes": [{
        "name": "n1", "status": "online", "draining": False, "tasks": 1, "cores": 8, "cores_reserved": 2.0, "cpu": 0.5,
        "memory": 2**34, "memory_reserved": 2**30, "memory_used": 2**31, "gpus": 2, "gpus_reserved": 1,
        "gpus_cordoned": 1, "gpu_utilization": 0.25, "gpu_memory": 2**37, "gpu_memory_used": None,
    }],
    "tasks": [{
        "id": "4711", "name": "train", "owner": "ann", "status": "running", "node": "n1", "cores": 2.0, "cpu": 1.504,
        "memory": 2**30, "memory_used": 2**29, "gpus": ["0", "1"], "gpu_utilization": 0.0, "gpu_memory_used": 2**33,
        "started": "2026-01-02T03:04:05Z", "idle": 720.0, "unused": True, "command": None,
    }],
}  # fmt: skip


def states(call, peer: Peer, *cards: dict) -> list[str]:
    peer.on("GET", "/api/v1/gpus", {"items": list(cards), "next": None})
    return call("gpus").out.splitlines()[1:]


def test_every_card_is_a_row_with_who_has_it(call, peer: Peer) -> None:
    (line,) = states(call, peer, CARD)
    assert line.split() == ["n1", "0", "NVIDIA", "A100", "1G/80G", "87%", "71", "train", "ann", "running"]
    assert json.loads(call("gpus", "--json").out)["items"] == [CARD]
    assert call("gpus", "-q").out == "0000:1a:00.0\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "free"),
        ({"processes": [{"pid": 5, "memory": 1, "task": None, "owner": None}]}, "free, but 1 unknown process on it"),
        ({"cordon": MARK}, "cordoned: gpu is lost"),
        ({"usable": False}, "cannot be used now"),
        ({"task": "1", "status": "running", "unused": True, "idle": 750.0}, "running, unused for 12m30s"),
    ],
)
def test_the_state_says_what_to_know_first(call, peer: Peer, more: dict, words: str) -> None:
    (line,) = states(call, peer, {**FREE, **more})
    assert line.endswith(words)


def test_cards_are_chosen_by_node_and_by_being_free(call, peer: Peer) -> None:
    away = {**FREE, "node": "n2", "node_status": "offline"}
    states(call, peer, CARD, FREE, {**FREE, "cordon": MARK}, {**FREE, "usable": False}, away)
    assert len(json.loads(call("gpus", "--free", "--json").out)["items"]) == 1
    assert len(json.loads(call("gpus", "-n", "n2", "--json").out)["items"]) == 1


def test_the_whole_cluster_is_shown_once_where_no_terminal_is(call, peer: Peer) -> None:
    peer.on("GET", "/api/v1/use", USE)
    out = call("top").out
    assert "4 tasks, 9 waiting, 1 with an unused reservation" in out
    node, task = (next(line for line in out.splitlines() if line.startswith(word)) for word in ("n1 ", "train "))
    assert node.split() == ["n1", "online", "4.0/2/8", "2G/1G/16G", "1/2", "(1", "cordoned)", "25%", "?/128G", "1"]
    assert task.split() == ["train", "ann", "n1", "running", "1.5/2", "512M/1G", "0,1", "0%", "8G", "12m"]
    assert "and 3 more" in out
    assert peer.asked[0].query == {"limit": "200"}
    assert json.loads(call("top", "--json").out) == USE
    assert call("top", "-q").out == "4711\n"


def test_on_a_terminal_it_looks_again_until_it_is_interrupted(call, peer: Peer, monkeypatch) -> None:
    peer.on("GET", "/api/v1/use", USE)
    outer, inner = pty.openpty()
    told = b""

    def read() -> None:
        nonlocal told
        with contextlib.suppress(OSError):  # as a terminal ends
            while chunk := os.read(outer, 4096):
                told += chunk

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    pauses = []

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", rest)
    with os.fdopen(inner, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run(["top", "--every", "2s"]) == 130
    reader.join(30)
    assert pauses == [2, 2, 2]
    assert len(peer.asked) == 3
    assert told.count(b"\x1b[H\x1b[J") == 3


def test_programs_get_a_line_for_each_look(call, peer: Peer, monkeypatch) -> None:
    peer.on("GET", "/api/v1/use", USE)
    rests = iter([None])

    def rest(_seconds: float) -> None:
        if next(rests, "over") == "over":
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", rest)
    ran = call("top", "--every", "1s", "--json")
    assert [json.loads(line) for line in ran.out.splitlines()] == [USE, USE]
    assert call("top", "--every", "1s", "--once").code == 2


def test_cards_are_cordoned_and_let_go(call, peer: Peer) -> None:
    for verb in ("cordon", "uncordon"):
        peer.on("POST", f"/api/v1/nodes/n1/{verb}", {"name": "n1"})
    assert "node uncordon n1 0" in call("node", "cordon", "n1", "0", "--reason", "fan").out
    assert peer.asked[-1].body == {"device": "0", "reason": "fan"}
    assert call("node", "uncordon", "n1", "0").code == 0
    assert peer.asked[-1].body == {"device": "0"}


def test_a_node_tells_of_its_cordons(call, peer: Peer) -> None:
    node = {"id": "1", "name": "n1", "gpus": [{"index": 0, "model": "A"}], "cordons": [MARK, {**MARK, "index": None}]}
    peer.on("GET", "/api/v1/nodes/n1", node)
    out = call("node", "info", "n1").out
    assert "GPU 0 (0000:1a:00.0): gpu is lost (node n1); 0000:1a:00.0: gpu is lost (node n1)" in out
