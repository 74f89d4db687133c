"""`kohakuriver task`: what is asked of the host, and what people and programs see."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.client.scripted import Peer, Reply, problem, stream

TASKS = "/api/v1/tasks"
ID = "1790000000000000007"
ONE = f"{TASKS}/{ID}"
VIEW = {
    "id": ID, "name": "train", "status": "running", "owner": "me", "node": "node1", "cores": 2, "memory": 2**31,
    "devices": 0, "started": "2026-01-02T03:04:05Z", "finished": "2026-01-02T04:05:05Z", "exit": None,
    "unreachable": True, "reason": None, "command": ["sh", "-c", "echo $X"], "env": {"X": "1"}, "attempt": 1,
}  # fmt: skip


def submitted(peer: Peer, *ids: str) -> None:
    peer.on("POST", TASKS, Reply({"batch": ids[0], "tasks": list(ids)}, status=201))


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["--", "true"], {"command": ["true"], "cores": 1}),
        (["python", "-c", "pass"], {"command": ["python", "-c", "pass"], "cores": 1}),
        (["-c", "4", "-m", "8G", "--pin", "--", "a", "--", "-t"], {"command": ["a", "--", "-t"], "cores": 4, "memory": 2**33, "pin": True}),
        (["-t", "Node1::0,1", "-t", "node2:1", "a"], {"command": ["a"], "cores": 1, "targets": ["node1::0,1", "node2:1"]}),
        (["--container", "NULL", "a"], {"command": ["a"], "cores": 1, "backend": "process"}),
        (["--container", "env", "--backend", "docker", "a"], {"command": ["a"], "cores": 1, "container": "env", "backend": "docker"}),
        (["-e", "A=1", "--env=B=x=y", "-e", "FROM_HERE", "--secret", "S=1", "a"],
         {"command": ["a"], "cores": 1, "env": {"A": "1", "B": "x=y", "FROM_HERE": "ö"}, "secrets": {"S": "1"}}),
        (["--option", "a=1", "--option", "b=x", "--option", "c=[true]", "a"],
         {"command": ["a"], "cores": 1, "options": {"a": 1, "b": "x", "c": [True]}}),
        (["--array", "1,3,8-12:2%4", "a"], {"command": ["a"], "cores": 1, "array": "1,3,8-12:2%4"}),
        (["--after", "1", "--after", "batch:2", "--after-any", "x", "a"],
         {"command": ["a"], "cores": 1, "after": ["1", "batch:2"], "after_any": ["x"]}),
        (["--retries", "3", "--retry-on", "failed,oom", "--retry-on", "timeout", "--retry-delay", "30s", "a"],
         {"command": ["a"], "cores": 1, "retries": 3, "retry_on": ["failed", "oom", "timeout"], "retry_delay": 30}),
        (["--image", "debian:12", "--mount", "/a:/b:ro", "--mount", "/c:/d", "--network", "none", "--privileged", "a"],
         {"command": ["a"], "cores": 1, "image": "debian:12",
          "options": {"mounts": ["/a:/b:ro", "/c:/d"], "network": "none", "privileged": True}}),
        (["--constraint", "room=b12", "--constraint", "fast", "--constraint", "a!=1", "a"],
         {"command": ["a"], "cores": 1, "constraints": ["a!=1", "fast", "room=b12"]}),
        (["--requeue", "a"], {"command": ["a"], "cores": 1, "requeue": True}),
        (["--span", "--at-once", "2", "a", "span:{0..3}"],
         {"command": ["a", "span:{0..3}"], "cores": 1, "span": True, "at_once": 2}),
        (["-g", "2", "a"], {"command": ["a"], "cores": 1, "devices": {"count": 2}}),
        (["-g", "0", "a"], {"command": ["a"], "cores": 1}),
        (["-g", "a6000:2", "a"], {"command": ["a"], "cores": 1, "devices": {"count": 2, "model": "a6000"}}),
        (["-g", "24GB", "a"], {"command": ["a"], "cores": 1, "devices": {"count": 1, "memory": 24 * 2**30}}),
        (["-n", "x", "--workdir", "/w", "--time-limit", "2h30m", "--grace", "0s", "-p", "-5", "--copies", "3", "-c", "0", "a"],
         {"command": ["a"], "cores": 0, "name": "x", "workdir": "/w", "time_limit": 9000, "grace": 0, "priority": -5, "copies": 3}),
    ],
)  # fmt: skip
def test_flags_become_a_request(call, peer: Peer, monkeypatch, words: list[str], body: dict) -> None:
    monkeypatch.setenv("FROM_HERE", "ö")
    submitted(peer, ID)
    ran = call("task", "submit", *words)
    said = f"submitted 1 task as batch {ID}\n" if {"array", "span"} & body.keys() else f"submitted task {ID}\n"
    assert (ran.code, ran.out, ran.err) == (0, said, "")
    assert peer.asked[0].body == body
    assert peer.asked[0].headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "no command"), (["--"], "no command"), (["-t", "n:", "a"], "n:"), (["-t", "n::", "a"], "n::"),
        (["-t", "n::a", "a"], "GPU index"), (["-t", "n:-1", "a"], "NUMA"), (["-t", "::0", "a"], "::0"),
        (["-m", "8", "a"], "8G"), (["-m=-1G", "a"], "-1G"), (["-m", "1e99G", "a"], "1e99G"), (["-m", "∞", "a"], "∞"),
        (["-c", "-1", "a"], "--cores"), (["-c", "1.5", "a"], "1.5"), (["-g", "65", "a"], "--gpus"), (["-g", ":2", "a"], "--gpus"),
        (["-e", "=x", "a"], "--env"), (["--constraint", "Room=x", "a"], "--constraint"), (["-e", "NOT_SET_HERE", "a"], "NOT_SET_HERE"), (["--option", "x", "a"], "--option"),
        (["--time-limit", "0s", "a"], "time"), (["--time-limit", "5", "a"], "5m"), (["-p", "5000", "a"], "--priority"),
        (["--container", "NULL", "--backend", "docker", "a"], "process"), (["--container", "c", "--image", "i", "a"], "--image"),
        (["--array", "5-1", "a"], "backwards"), (["--array", "0-3", "--copies", "2", "a"], "--copies"),
        (["--array", "0-3", "-t", "a", "-t", "b", "a"], "--target"), (["--array", "0-3", "--logs", "a"], "--logs"),
        (["--retries", "1001", "a"], "--retries"), (["--retry-on", "oom", "a"], "--retry-on"),
        (["--retries", "1", "--retry-on", "rain", "a"], "lost-node"), (["--retry-delay", "3s", "a"], "--retry-delay"),
        (["--span", "a", "span:{3..1}"], "backwards"), (["--at-once", "0", "a"], "--at-once"),
        (["--script", "/nowhere", "a"], "/nowhere"), (["--logs", "--copies", "2", "a"], "--logs"), (["--wait", "-m", "8", "a"], "8G"),
    ],
)  # fmt: skip
def test_what_can_be_seen_to_be_wrong_never_reaches_the_host(call, peer: Peer, words: list[str], hint: str) -> None:
    ran = call("task", "submit", *words)
    assert (ran.code, ran.out) == (2, "")
    assert hint in ran.err
    assert not peer.asked


def test_scripts_come_from_a_file_or_standard_input(call, peer: Peer, tmp_path: Path, monkeypatch) -> None:
    submitted(peer, ID)
    (tmp_path / "job.sh").write_text("#!/bin/sh\necho ü\n")
    assert call("task", "submit", "--script", str(tmp_path / "job.sh"), "--", "-x").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"echo hi\n")))
    assert call("task", "submit", "--script", "-").code == 0
    assert [asked.body["script"] for asked in peer.asked] == ["#!/bin/sh\necho ü\n", "echo hi\n"]
    assert [asked.body["command"] for asked in peer.asked] == [["-x"], []]
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert call("task", "submit", "--script", str(tmp_path / "binary")).code == 2


def test_ids_are_printed_as_asked(call, peer: Peer) -> None:
    submitted(peer, "1", "2")
    words = ("task", "submit", "--copies", "2")
    assert call(*words, "-q", "--", "a").out == "1\n2\n"
    assert call(*words, "-o", "name", "--", "a").out == "1\n2\n"
    assert json.loads(call(*words, "-o", "json", "--", "a").out) == {"batch": "1", "tasks": ["1", "2"]}
    assert call(*words, "-o", "csv", "--", "a").out == "id\n1\n2\n"


@pytest.mark.parametrize(
    ("view", "code"),
    [
        ({"status": "completed", "exit": {"code": 0}}, 0),
        ({"status": "failed", "exit": {"code": 7}}, 7),
        ({"status": "failed", "exit": {"signal": 11}}, 139),
        ({"status": "killed", "exit": {"code": None, "signal": 15}}, 143),
        ({"status": "killed_oom", "exit": {"signal": 9, "oom": True}}, 137),
        ({"status": "failed", "exit": {"code": None, "reason": "no such program"}}, 125),
        ({"status": "rejected", "exit": None}, 125),
        ({"status": "lost", "exit": None}, 125),
    ],
)
def test_waiting_answers_with_the_code_of_the_task(call, peer: Peer, view: dict, code: int) -> None:
    submitted(peer, ID)
    peer.on("GET", f"{ONE}/wait", {"id": ID, **view})
    ran = call("task", "submit", "--wait", "--", "a")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"submitted task {ID}\ntask {ID} {view['status']}")
    assert call("task", "wait", ID).code == code


def test_waiting_for_several_answers_with_the_first_bad_code(call, peer: Peer) -> None:
    for task, code in (("1", 0), ("2", 5), ("3", 6)):
        peer.on("GET", f"{TASKS}/{task}/wait", {"id": task, "status": "failed", "exit": {"code": code}})
    assert call("wait", "1", "2", "3").code == 5


def test_waiting_is_no_success_when_we_fail_ourselves(call, peer: Peer) -> None:
    peer.on("POST", TASKS, problem(404, "not_found", "no such node"))
    assert call("task", "submit", "-w", "--", "a").code == 125
    assert call("task", "submit", "--", "a").code == 3
    assert call("task", "wait", "9999").code == 125


def test_waiting_ends_with_its_time_and_the_task_goes_on(call, peer: Peer) -> None:
    submitted(peer, ID)
    peer.on("GET", f"{ONE}/wait", {"id": ID, "status": "running"})
    ran = call("task", "submit", "--wait", "--timeout", "0s", "--", "a")
    assert ran.code == 124
    assert f"kohakuriver task wait {ID}" in ran.err


def test_ctrl_c_while_waiting_says_how_to_go_on_and_kills_nothing(call, peer: Peer, monkeypatch) -> None:
    def interrupt(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    submitted(peer, ID)
    monkeypatch.setattr("kohakuriver.cli.waiting.wait_for", interrupt)
    ran = call("task", "submit", "--wait", "-q", "--", "a")
    assert ran[:2] == (130, f"{ID}\n")
    assert f"kohakuriver task wait {ID}" in ran.err
    assert [asked.method for asked in peer.asked] == ["POST"]


def test_run_shows_both_streams_apart_and_answers_with_the_code(call, peer: Peer) -> None:
    submitted(peer, ID)
    peer.on("GET", f"{ONE}/output/stdout", stream(b"out\xff"), stream(offset=4))
    peer.on("GET", f"{ONE}/output/stderr", stream(b"err\n"), stream(offset=4))
    peer.on("GET", ONE, {"id": ID, "status": "failed"})
    peer.on("GET", f"{ONE}/wait", {"id": ID, "status": "failed", "exit": {"code": 7}})
    ran = call("-q", "run", "--", "sh", "-c", "echo")
    assert ran == (7, "out\udcff", "err\n")


def test_list_asks_as_told_and_shows_a_row_a_task(call, peer: Peer) -> None:
    peer.on("GET", TASKS, {"items": [VIEW], "next": None})
    ran = call("task", "list", "-s", "running,paused", "-s", "lost", "-n", "node1", "-l", "7", "--mine", "--sort=-id")
    assert peer.asked[0].query == {
        "status": "running,paused,lost", "node": "node1", "limit": "7", "owner": "me", "sort": "-id",
    }  # fmt: skip
    head, row = ran.out.splitlines()
    assert head.split() == [
        "ID",
        "NAME",
        "STATUS",
        "NODE",
        "OWNER",
        "CORES",
        "MEMORY",
        "GPUS",
        "TIME",
        "EXIT",
        "COMMAND",
    ]
    assert row.split() == [
        ID,
        "train",
        "running",
        "(unreachable)",
        "node1",
        "me",
        "2",
        "2G",
        "0",
        "1h1m",
        "sh",
        "-c",
        "'echo",
        "$X'",
    ]


def test_list_takes_all_pages_with_all_and_tells_of_more_without(call, peer: Peer) -> None:
    def page(asked) -> Reply:
        first = int(asked.query.get("cursor", 0))
        rows = [{"id": str(i)} for i in range(first, first + int(asked.query["limit"]))]
        return Reply({"items": rows, "next": str(first + len(rows)) if first < 400 else None})

    peer.on("GET", TASKS, page)
    assert len(call("ps", "--all", "-q").out.split()) == 600
    ran = call("ps", "-l", "3", "-c")
    assert len(ran.out.splitlines()) == 4
    assert "more than 3" in ran.err
    assert json.loads(call("ps", "-l", "3", "--json").out)["next"] == "3"
    assert call("ps", "-l", "0").code == 2


def test_status_is_readable_for_people_and_whole_for_programs(call, peer: Peer) -> None:
    peer.on("GET", ONE, VIEW)
    shown = call("task", "show", ID).out
    assert "memory:       2G" in shown
    assert "command:      sh -c 'echo $X'" in shown
    assert json.loads(call("task", "status", ID, "-o", "json").out) == VIEW


@pytest.mark.parametrize(
    ("verb", "path", "more", "body"),
    [
        ("kill", "kill", [], {}), ("kill", "kill", ["--grace", "5s"], {"grace": 5}), ("pause", "pause", [], {}),
        ("resume", "resume", [], {}), ("approve", "approve", [], {}), ("reject", "reject", ["--reason", "x"], {"reason": "x"}),
        ("lose", "declare-lost", ["--reason", "x"], {"reason": "x"}),
    ],
)  # fmt: skip
def test_changes_are_asked_for(call, peer: Peer, verb: str, path: str, more: list[str], body: dict) -> None:
    peer.on("POST", f"{ONE}/{path}", {"id": ID, "status": "stopping"})
    ran = call("task", verb, ID, *more)
    assert ran.code == 0
    assert ran.out.startswith(f"task {ID} ")
    assert peer.asked[0].body == body


def test_one_refusal_does_not_spare_the_others(call, peer: Peer) -> None:
    peer.on("POST", f"{TASKS}/1/kill", problem(409, "conflict", "task 1 has ended"))
    peer.on("POST", f"{TASKS}/2/kill", {"id": "2"})
    ran = call("kill", "1", "2")
    assert ran.code == 5
    assert ran.out == "task 2 will be killed\n"
    assert "task 1 has ended" in ran.err


def test_a_dry_run_shows_the_place_and_the_runners_up_and_submits_nothing(call, peer: Peer) -> None:
    candidates = [{"node": "n2", "takes": True, "chosen": True, "reason": "it fits there now"},
                  {"node": "n1", "takes": True, "chosen": False, "reason": "n2 is fuller"}]  # fmt: skip
    place = {"target": None, "node": "n2", "reason": None, "window": {"text": "now"}, "candidates": candidates}
    peer.on("POST", "/api/v1/plan", {"tasks": 2, "starting": 1, "places": [place]})
    ran = call("task", "submit", "--dry-run", "--copies", "2", "--", "a")
    assert (ran.code, [asked.path for asked in peer.asked]) == (0, ["/api/v1/plan"])
    assert ran.out.startswith("2 tasks, 1 would start now; nothing was submitted\non n2\nstart: now\n")
    assert "n2    chosen  it fits there now" in ran.out
    assert "n1    yes     n2 is fuller" in ran.out


def test_names_are_encoded_into_the_path(call, peer: Peer) -> None:
    call("task", "status", "../nodes?x=1")
    assert peer.asked[0].path == f"{TASKS}/..%2Fnodes%3Fx%3D1"


def test_explain_history_and_attempts_are_tables(call, peer: Peer) -> None:
    reason = {"code": "cores", "text": "needs 8 cores, 2 are free", "ahead": 3}
    peer.on("GET", f"{ONE}/explain", {"task": ID, "status": "pending", "reason": reason,
                                      "window": {"text": "unknown: 1 of 1 tasks before it have no time limit"},
                                      "candidates": [{"node": "n1", "takes": False, "reason": "2 cores free"}]})  # fmt: skip
    peer.on("GET", f"{ONE}/history", {"items": [{"id": "1", "at": "2026-01-02T03:04:05Z", "what": "submitted", "actor": "me",
                                                 "node": None, "detail": {"batch": "1"}}], "next": None})  # fmt: skip
    peer.on("GET", f"{ONE}/attempts", {"items": [{"attempt": 1, "node": "n1", "memory_peak": 1536}], "next": None})
    shown = call("task", "explain", ID).out
    assert f"task {ID} is pending: needs 8 cores, 2 are free; 3 tasks are before it" in shown
    assert "start: unknown: 1 of 1 tasks before it have no time limit" in shown
    assert "n1    no    2 cores free" in shown
    assert "submitted  me  batch=1" in call("task", "history", ID).out
    assert "1.5K" in call("task", "attempts", ID).out


def test_logs_are_the_bytes_themselves(home, call, peer: Peer, capfdbinary, monkeypatch) -> None:
    from kohakuriver.cli.main import run

    peer.on("GET", f"{ONE}/output/stdout", stream(b"[bold]\x1b[1m\xff\n"))
    peer.on("GET", f"{ONE}/output/stderr", stream(b"err"))
    assert run(["task", "logs", ID]) == 0
    assert capfdbinary.readouterr().out == b"[bold]\x1b[1m\xff\n"
    assert call("task", "logs", ID, "-e", "--attempt", "2", "--offset", "5").out == "err"
    assert peer.asked[-1].query == {"attempt": "2", "offset": "5"}


def test_logs_of_the_last_lines_then_follow(call, peer: Peer) -> None:
    peer.on(
        "GET", f"{ONE}/output/stdout", stream(b"a\nb\nc\n", offset=10), stream(b"d\n", offset=16), stream(offset=18)
    )
    peer.on("GET", ONE, {"id": ID, "status": "completed"})
    ran = call("logs", ID, "--tail", "1", "-f")
    assert ran.out == "c\nd\n"
    assert [asked.query.get("offset") for asked in peer.asked_for("GET", f"{ONE}/output/stdout")] == [None, "16", "18"]


@pytest.mark.parametrize("words", [["--tail", "-1"], ["--offset", "-1"], ["--tail", "1", "--offset", "1"]])
def test_logs_refuse_senseless_numbers(call, peer: Peer, words: list[str]) -> None:
    assert call("task", "logs", ID, *words).code == 2
    assert not peer.asked


def test_watch_prints_each_change_until_the_end(call, peer: Peer) -> None:
    events = [
        {"id": i, "kind": kind, "ref": ref}
        for i, (kind, ref) in enumerate([("node", "x"), ("task", "1"), ("task", ID), ("task", ID)])
    ]
    peer.on("GET", "/api/v1/events", stream(*(json.dumps(each).encode() + b"\n" for each in events)))
    states = [
        {"id": ID, "status": word, "exit": {"code": 3} if word == "failed" else None}
        for word in ("pending", "running", "failed")
    ]
    peer.on("GET", ONE, states[0], *states)
    ran = call("task", "watch", ID)
    assert [line.split()[1:] for line in ran.out.splitlines()] == [["pending"], ["running"], ["failed", "3"]]
    peer.on("GET", "/api/v1/events", stream(*(json.dumps(each).encode() + b"\n" for each in events)))
    peer.on("GET", ONE, states[0], *states)
    lines = call("task", "watch", ID, "-o", "json").out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["pending", "running", "failed"]


@pytest.mark.parametrize("verb", ["kill", "pause", "resume"])
def test_a_whole_batch_is_changed_in_one_request(call, peer: Peer, verb: str) -> None:
    answer = {"batch": ID, "owner": "me", "tasks": 5, "statuses": {"killed": 5}, "changed": 4}
    peer.on("POST", f"/api/v1/batches/sweep/{verb}", answer)
    ran = call("task", verb, "--batch", "sweep")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"batch {ID}: 4 of 5 tasks will")


@pytest.mark.parametrize("words", [["kill"], ["kill", "1", "--batch", "2"], ["wait"], ["wait", "1", "--batch", "2"]])
def test_either_tasks_or_a_batch_are_named(call, peer: Peer, words: list[str]) -> None:
    ran = call("task", *words)
    assert (ran.code, ran.out) == (2, "")
    assert "batch" in ran.err
    assert not peer.asked


def test_waiting_for_a_batch_answers_with_the_first_bad_code(call, peer: Peer) -> None:
    peer.on("GET", TASKS, {"items": [{"id": "1"}, {"id": "2"}], "next": None})
    for task, code in (("1", 0), ("2", 5)):
        view = {"id": task, "status": "failed" if code else "completed", "exit": {"code": code}}
        peer.on("GET", f"{TASKS}/{task}/wait", view)
    assert call("task", "wait", "--batch", "sweep").code == 5
    assert peer.asked[0].query["batch"] == "sweep"


def test_a_task_among_many_is_shown_in_words(call, peer: Peer) -> None:
    many = {
        "array": {"index": 3, "least": 0, "greatest": 15, "count": 16, "most": 4},
        "after": [{"id": "7", "batch": True, "always": False}, {"id": "8", "batch": False, "always": True}],
        "retry": {"most": 3, "on": ["failed", "oom"], "delay": 30, "retried": 1},
        "ready": "2026-01-02T03:04:05Z", "requeue": True, "lease": 60,
    }  # fmt: skip
    peer.on("GET", ONE, {**VIEW, **many})
    shown = call("task", "status", ID).out
    assert "3 of 0 to 15, 16 tasks, at most 4 at once" in shown
    assert "batch:7 8 (any end)" in shown
    assert "1 of 3 after failed, oom, 30s later" in shown
    assert json.loads(call("task", "status", ID, "-o", "json").out)["retry"] == many["retry"]
