"""`node`, `user`, `auth`, `status`, `plugins`, `version` against the scripted host."""

import io
import json
import os
import pty
import sys
import threading
from pathlib import Path

import pytest

from kohakuriver.cli.main import run
from tests.client.scripted import Peer, Reply, make_certificate, problem

NODE = {
    "id": "1", "name": "n1", "status": "online", "draining": True, "cores": 8, "cores_reserved": 2.5, "memory": 2**34,
    "memory_reserved": 2**30, "gpus": [{"index": 0, "model": "A"}], "tasks": 2, "load": 1.0, "backends": ["process"],
    "silent": 0.4, "memory_used": None, "disk_used": None, "disk_total": None,
}  # fmt: skip
USER = {"id": "5", "name": "ann", "role": "admin", "state": "active"}
LINK = {"user": USER, "secret": "kri_x", "url": "http://h/setup#kri_x", "expires": "2026-01-02T03:04:05Z"}


def typed(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_nodes_are_listed_and_filtered(call, peer: Peer) -> None:
    peer.on("GET", "/api/v1/nodes", {"items": [NODE, {**NODE, "name": "n2", "status": "offline"}], "next": None})
    assert "n1    online (draining)" in call("node", "list").out
    assert call("node", "ls", "-s", "offline", "-q").out == "n2\n"
    assert peer.asked[0].query == {}
    summary = json.loads(call("node", "summary", "--json").out)
    assert (summary["nodes"], summary["offline"], summary["cores"], summary["gpus"]) == (2, 1, 8, 1)
    assert "n1" in call("node", "health").out


def test_one_node_is_shown(call, peer: Peer) -> None:
    peer.on("GET", "/api/v1/nodes/n1", NODE)
    peer.on("GET", "/api/v1/nodes/n1/health", {"items": [{"at": "2026-01-02T03:04:05Z", "running": 3, "cpu": 0.125}]})
    assert "memory:           16G" in call("node", "status", "n1").out
    assert json.loads(call("node", "show", "n1", "--json").out) == NODE
    assert "12%" in call("node", "health", "n1").out


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["drain", "n1"], "drain", {"reason": "by hand"}),
        (["drain", "n1", "--reason", "fan"], "drain", {"reason": "fan"}),
        (["undrain", "n1"], "undrain", {}),
        (["revoke", "n1"], "revoke", {"reason": "by hand"}),
    ],
)
def test_nodes_are_changed(call, peer: Peer, words: list[str], path: str, body: dict) -> None:
    peer.on("POST", f"/api/v1/nodes/n1/{path}", NODE)
    assert call("node", *words).code == 0
    assert peer.asked[0].body == body


def test_a_join_command_stands_alone_on_stdout(call, peer: Peer) -> None:
    answer = {
        "name": "n3",
        "token": "krj_x",
        "command": "K=krj_x kohakuriver node join n3",
        "expires": "2026-01-02T03:04:05Z",
    }
    peer.on("POST", "/api/v1/node-tokens", Reply(answer, status=201))
    ran = call("node", "token", "N3", "--expires", "30m")
    assert ran.out == "K=krj_x kohakuriver node join n3\n"
    assert peer.asked[0].body == {"name": "n3", "expires": 1800}
    assert call("node", "token", "n3", "--expires", "2h").code == 2
    assert call("node", "token", "a b").code == 2


def test_join_needs_a_token_from_a_safe_place(call, peer: Peer) -> None:
    ran = call("node", "join", "n3")
    assert ran.code == 2
    assert "KOHAKURIVER_JOIN_TOKEN" in ran.err


def test_join_keeps_the_credential_and_says_how_to_serve(call, peer: Peer, home: Path, monkeypatch) -> None:
    peer.on(
        "POST", "/api/v1/join", Reply({"node": "9", "name": "n3", "credential": "krn_y", "cluster": "c"}, status=201)
    )
    monkeypatch.setenv("KOHAKURIVER_JOIN_TOKEN", "krj_x")
    ran = call("node", "join", "n3", "--data-dir", str(home / "runner"))
    assert ran.code == 0, ran.err
    assert f"kohakuriver serve --role runner --data-dir {home}/runner" in ran.err
    assert peer.asked[0].body == {"token": "krj_x", "name": "n3"}
    [kept] = (home / "runner").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "krn_y" in kept.read_text()


def test_users_are_listed_and_changed(call, peer: Peer) -> None:
    peer.on("GET", "/api/v1/users", {"items": [USER], "next": None})
    peer.on("PATCH", "/api/v1/users/ann", USER)
    assert "ann   admin  active" in call("user", "list").out
    for words, body in (
        (["role", "ann", "viewer"], {"role": "viewer"}), (["disable", "ann"], {"disabled": True}),
        (["enable", "ann"], {"disabled": False}),
    ):  # fmt: skip
        assert call("user", *words).code == 0
        assert peer.asked[-1].body == body


def test_limits_of_an_account_are_set_one_by_one(call, peer: Peer) -> None:
    peer.on("PATCH", "/api/v1/users/ann/limits", USER)
    for words, body in (
        (["0"], {"most_open": 0}),
        (["-", "--cores", "64", "--memory", "2G", "--gpus", "-"],
         {"most_open": -1, "most_cores": 64, "most_memory": 2 * 1024**3, "most_devices": -1}),
        (["--memory", "0", "--running", "0"], {"most_memory": 0, "most_running": 0}),
    ):  # fmt: skip
        assert call("user", "limit", "ann", *words).code == 0
        assert peer.asked[-1].body == body
    for wrong in (["--", "-1"], [], ["--cores", "many"], ["--memory", "64"], ["1000001"]):
        assert call("user", "limit", "ann", *wrong).code == 2


def test_an_account_shows_what_it_holds_and_may_hold(call, peer: Peer) -> None:
    limits = {"most_running": 0, "most_cores": 64, "most_memory": 2**30}
    holds = {"running": 3, "cores": 6.5, "memory": 2**20, "devices": 0}
    peer.on("GET", "/api/v1/users/ann", {**USER, **limits, **holds})
    told = call("user", "show", "ann")
    assert told.code == 0
    assert "3 tasks, 6.5 cores, 1M of memory" in told.out
    assert "any tasks, 64 cores, 1G of memory" in told.out


def test_labels_of_a_node_are_given_and_taken_away(call, peer: Peer) -> None:
    peer.on("PATCH", "/api/v1/nodes/n1/labels", {"labels": {"room": "b12"}})
    ran = call("node", "label", "n1", "room=b12", "fast=", "old-", "a-b=c")
    assert (ran.code, "b12" in ran.out) == (0, True)
    assert peer.asked[0].body == {"labels": {"room": "b12", "fast": "", "old": None, "a-b": "c"}}
    peer.on("GET", "/api/v1/nodes/n1", {"labels": {"room": "b12"}})
    assert "b12" in call("node", "label", "n1").out
    for wrong in ("room", "=x", "-"):
        assert call("node", "label", "n1", "--", wrong).code == 2


def test_set_up_links_stand_alone_on_stdout(call, peer: Peer) -> None:
    peer.on("POST", "/api/v1/users", Reply(LINK, status=201))
    peer.on("POST", "/api/v1/users/ann/setup-link", LINK)
    assert call("user", "add", "ann", "--role", "operator", "--most-open", "3").out == LINK["url"] + "\n"
    assert peer.asked[0].body == {"name": "ann", "role": "operator", "most_open": 3}
    assert call("user", "passwd", "ann").out == LINK["url"] + "\n"


def test_own_password_is_read_from_standard_input(call, peer: Peer, monkeypatch) -> None:
    peer.on("POST", "/api/v1/auth/password", Reply(status=204))
    typed(monkeypatch, "old one\nnew one\n")
    ran = call("user", "passwd", "--password-stdin")
    assert ran.code == 0, ran.err
    assert peer.asked[0].body == {"old": "old one", "new": "new one"}
    assert call("user", "passwd").code == 2


@pytest.fixture
def nobody(call, monkeypatch):
    """Nobody is signed in."""
    monkeypatch.delenv("KOHAKURIVER_TOKEN")
    return call


def kept(home: Path) -> dict:
    file = home / ".kohakuriver" / "client.json"
    assert file.stat().st_mode & 0o777 == 0o600
    return json.loads(file.read_text())


def test_login_keeps_a_token_that_the_next_command_uses(nobody, peer: Peer, home: Path, monkeypatch) -> None:
    peer.on("POST", "/api/v1/auth/login", {"user": USER, "token": "kru_new"})
    peer.on("GET", "/api/v1/auth/me", USER)
    typed(monkeypatch, "secret word\n")
    ran = nobody("auth", "login", "-u", "ann", "--password-stdin", "--token-name", "mine")
    assert ran.code == 0, ran.err
    assert peer.asked[0].body == {"user": "ann", "password": "secret word", "token": "mine"}
    assert kept(home) == {"url": peer.url, "token": "kru_new", "user": "ann"}
    monkeypatch.delenv("KOHAKURIVER_URL")
    assert "ann" in nobody("auth", "status").out
    assert peer.asked[-1].headers["Authorization"] == "Bearer kru_new"
    peer.on("POST", "/api/v1/auth/logout", Reply(status=204))
    assert nobody("auth", "logout", "--revoke").code == 0
    assert peer.asked[-1].headers["Authorization"] == "Bearer kru_new"
    assert nobody("auth", "logout").err == "you were not signed in\n"


def test_a_wrong_password_keeps_nothing(nobody, peer: Peer, home: Path, monkeypatch) -> None:
    peer.on("POST", "/api/v1/auth/login", problem(401, "not_signed_in", "wrong"))
    typed(monkeypatch, "x\n")
    assert nobody("auth", "login", "-u", "ann", "--password-stdin") == (4, "", "error: wrong\n")
    assert not (home / ".kohakuriver").exists()


@pytest.mark.parametrize(
    "words", [["-p", "hunter2"], ["--password=hunter2"], ["-t", "hunter2"], ["--token", "hunter2"]]
)
def test_secrets_on_the_command_line_are_refused_unseen(nobody, peer: Peer, words: list[str]) -> None:
    ran = nobody("auth", "login", "-u", "ann", *words)
    assert ran.code == 2
    assert "stdin" in ran.err
    assert "hunter2" not in ran.err
    assert not peer.asked


def test_a_token_of_ones_own_is_proved_before_it_is_kept(nobody, peer: Peer, home: Path, monkeypatch) -> None:
    peer.on("GET", "/api/v1/auth/me", USER)
    typed(monkeypatch, "kru_own\n")
    assert nobody("auth", "login", "--token-stdin").code == 0
    assert kept(home)["token"] == "kru_own"


def test_first_use_of_an_account_signs_in(nobody, peer: Peer, home: Path, monkeypatch) -> None:
    peer.on("POST", "/api/v1/auth/setup", {"user": USER, "token": "kru_first"})
    typed(monkeypatch, "kri_x\ngood password\n")
    assert nobody("auth", "setup", "--stdin", "-u", "ann", "--token-name", "t").code == 0
    assert peer.asked[0].body == {"secret": "kri_x", "password": "good password", "user": "ann", "token": "t"}
    assert kept(home)["token"] == "kru_first"


def test_tokens_and_sessions(call, peer: Peer) -> None:
    token = {"id": "3", "name": "ci", "scope": "read", "created": "2026-01-02T03:04:05Z", "expires": None, "used": None}
    peer.on("GET", "/api/v1/auth/tokens", {"items": [token], "next": None})
    peer.on("POST", "/api/v1/auth/tokens", Reply({**token, "token": "kru_ci"}, status=201))
    peer.on("DELETE", "/api/v1/auth/tokens/3", Reply(status=204))
    peer.on("GET", "/api/v1/auth/sessions", {"items": [], "next": None})
    peer.on("DELETE", "/api/v1/auth/sessions/8", Reply(status=204))
    assert "ci" in call("auth", "token", "list").out
    assert call("auth", "token", "create", "ci", "--scope", "read", "--expires", "30d").out == "kru_ci\n"
    assert peer.asked[-1].body == {"name": "ci", "scope": "read", "expires": 30 * 86400}
    assert call("auth", "token", "revoke", "3").out == "token 3 is void\n"
    assert call("auth", "sessions", "-q").out == ""
    assert call("auth", "sessions", "--end", "8").code == 0


@pytest.fixture
def secure(tmp_path: Path):
    file, fingerprint = make_certificate(tmp_path)
    peer = Peer(tls=file)
    yield peer, fingerprint
    peer.close()


def test_login_pins_the_named_certificate(nobody, secure, home: Path, monkeypatch) -> None:
    peer, fingerprint = secure
    peer.on("POST", "/api/v1/auth/login", {"user": USER, "token": "kru_new"})
    typed(monkeypatch, "secret word\n")
    words = (
        "auth",
        "login",
        "--url",
        peer.url,
        "-u",
        "ann",
        "--password-stdin",
        "--fingerprint",
        f"sha256:{fingerprint}",
    )
    assert nobody(*words).code == 0
    assert kept(home)["fingerprint"] == fingerprint


def test_without_a_terminal_an_unknown_certificate_gets_no_password(nobody, secure, monkeypatch) -> None:
    peer, fingerprint = secure
    typed(monkeypatch, "secret word\n")
    ran = nobody("auth", "login", "--url", peer.url, "-u", "ann", "--password-stdin")
    assert ran.code == 6
    assert f"--fingerprint {fingerprint}" in ran.err
    assert not peer.asked


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 6)])
def test_at_a_terminal_a_person_decides(nobody, secure, home: Path, monkeypatch, answer: str, code: int) -> None:
    peer, fingerprint = secure
    peer.on("POST", "/api/v1/auth/login", {"user": USER, "token": "kru_new"})
    ours, theirs = pty.openpty()
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "secret word")
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        writer = threading.Thread(target=os.write, args=(ours, answer.encode()))
        writer.start()
        ran = nobody("auth", "login", "--url", peer.url, "-u", "ann")
        writer.join()
    os.close(ours)
    assert ran.code == code
    assert fingerprint in ran.err
    assert bool(peer.asked) == (code == 0)


def test_status_is_numbers_and_what_runs(call, peer: Peer) -> None:
    status = {"cluster": "c", "version": "9", "nodes": {"online": 2, "offline": 0}, "tasks": {"running": 1}, "cores": 8,
              "cores_reserved": 1.5, "memory": 2**33, "memory_reserved": 0, "gpus": 0, "gpus_reserved": 0, "user": "ann"}  # fmt: skip
    peer.on("GET", "/api/v1/status", status)
    peer.on("GET", "/api/v1/tasks", {"items": [{"id": "77", "status": "running", "command": ["true"]}], "next": None})
    shown = call("status").out
    assert "1.5 of 8 reserved" in shown
    assert "2 online\n" in shown
    assert "77" in shown
    assert json.loads(call("status", "--json").out) == status


def test_plugins_and_versions(call, peer: Peer) -> None:
    peer.on("GET", "/api/v1/plugins", {"items": [{"name": "process", "state": "enabled", "provides": ["a", "b"]}]})
    peer.on("GET", "/version", {"product": "kohakuriver", "version": "9.9"})
    assert "a, b" in call("plugins").out
    assert call("plugins", "list", "-q").out == "process\n"
    assert call("version").out.startswith("kohakuriver ")
    assert json.loads(call("version", "--server", "--json").out)["host"] == "9.9"
    assert call("--version").out.startswith("kohakuriver ")


def test_serve_says_what_it_needs(call) -> None:
    ran = call("serve")
    assert ran.code == 2
    assert "--role" in ran.err


def test_run_takes_any_sequence(home: Path) -> None:
    assert run(("version",)) == 0
