"""`docker` and `env`: what is asked of the host, and what people are told."""

import json

import pytest

from tests.client.scripted import Reply, problem

VERSION = {
    "environment": "my-env", "number": 3, "digest": "sha256:" + "a" * 64, "size": 910_000_000, "syncer": "direct",
    "author": "anna", "note": "with vim", "created": "2026-01-02T03:04:05Z", "tasks": 0, "removing": False,
}  # fmt: skip
RUNS = {
    "id": "7", "kind": "package", "name": "my-env", "state": "running", "note": "exporting", "done": None, "total": None,
    "by": "anna", "started": "2026-01-02T03:04:05Z", "ended": None, "number": None, "moved": None, "error": None,
}  # fmt: skip
DONE = {**RUNS, "state": "done", "number": 4}
FOLLOW = "/api/v1/operations/7"
CONTAINERS = "/api/v1/environments/containers"
ROOT = "/api/v1/environments"
VERSIONS = f"{ROOT}/versions/my-env"


@pytest.fixture
def operation(peer):
    """Every operation goes well in one step."""
    peer.on("GET", FOLLOW, Reply(chunks=[json.dumps(DONE).encode() + b"\n"], kind="application/x-ndjson"))
    return Reply(RUNS, status=202)


@pytest.mark.parametrize(
    ("words", "method", "path", "body", "says"),
    [
        (
            ("docker", "container", "create", "debian:12", "my-env"), "POST", CONTAINERS,
            {"name": "my-env", "image": "debian:12", "pull": "missing"}, "docker container shell my-env",
        ),
        (
            ("docker", "container", "create", "env:base:2", "my-env", "--pull", "always"), "POST", CONTAINERS,
            {"name": "my-env", "environment": "base:2", "pull": "always"}, "container my-env runs",
        ),
        (
            ("docker", "tar", "create", "my-env", "--note", "with vim", "--force"), "POST",
            f"{CONTAINERS}/my-env/package", {"note": "with vim", "force": True}, "my-env:4 is there",
        ),
        (
            ("env", "add", "my-env", "debian:12"), "POST", f"{ROOT}/references/my-env", {"image": "debian:12", "note": ""},
            "--container my-env",
        ),
        (("env", "delete", "my-env:3"), "DELETE", f"{VERSIONS}/3", None, "my-env:3 is gone"),
        (("docker", "tar", "delete", "my-env", "--version", "3"), "DELETE", f"{VERSIONS}/3", None, "my-env:3 is gone"),
    ],
)  # fmt: skip
def test_what_takes_long_is_followed_to_its_end(call, peer, operation, words, method, path, body, says):
    peer.on(method, path, operation)
    ran = call(*words)
    assert ran.code == 0, ran.err
    assert says in ran.out
    assert "exporting" in ran.err
    assert peer.asked_for(method, path)[0].body == body


def test_detached_it_tells_how_to_follow_it(call, peer, operation):
    peer.on("POST", f"{CONTAINERS}/my-env/package", operation)
    ran = call("docker", "tar", "create", "my-env", "-d")
    assert (ran.code, "env operations 7" in ran.out) == (0, True)
    assert peer.asked_for("GET", FOLLOW) == []
    peer.on("GET", FOLLOW, RUNS, Reply(chunks=[json.dumps(DONE).encode() + b"\n"], kind="application/x-ndjson"))
    ran = call("env", "operations", "7")
    assert (ran.code, ran.out) == (0, "package of my-env: done\n")


def test_a_failure_says_why_and_is_no_success(call, peer):
    failed = {**RUNS, "state": "failed", "error": {"code": "conflict", "detail": "2 terminals are open in my-env"}}
    peer.on("POST", f"{CONTAINERS}/my-env/package", Reply(failed, status=202))
    ran = call("docker", "tar", "create", "my-env")
    assert (ran.code != 0, "2 terminals are open in my-env" in ran.err) == (True, True)


def test_containers_are_started_stopped_and_deleted(call, peer):
    view = {"name": "my-env", "state": "running", "origin": "debian:12", "size": 5, "shells": 1, "created": None}
    peer.on("POST", f"{CONTAINERS}/my-env/start", view)
    peer.on("POST", f"{CONTAINERS}/my-env/stop", {**view, "state": "stopped"})
    peer.on("DELETE", f"{CONTAINERS}/my-env", Reply(None, status=204))
    peer.on("GET", CONTAINERS, {"items": [view], "next": None})
    for verb, says in (("start", "runs"), ("stop", "stopped"), ("delete", "gone")):
        ran = call("docker", "container", verb, "my-env")
        assert (ran.code, says in ran.out) == (0, True), ran.err
    ran = call("docker", "container", "list")
    assert ran.out.splitlines()[1].split()[:3] == ["my-env", "running", "debian:12"]
    assert call("docker", "container", "list", "-q").out == "my-env\n"


def test_versions_are_a_row_each(call, peer):
    view = {
        "name": "my-env",
        "newest": 3,
        "default": False,
        "versions": [VERSION, {**VERSION, "number": 2, "tasks": 4}],
    }
    peer.on("GET", "/api/v1/environments", {"items": [view], "next": None})
    peer.on("GET", VERSIONS, view)
    for words in (
        ("env", "list"),
        ("env", "show", "my-env"),
        ("docker", "tar", "list"),
        ("docker", "tar", "list", "my-env"),
    ):
        ran = call(*words)
        assert ran.code == 0, ran.err
        first, second = ran.out.splitlines()[1:]
        assert first.split()[0] == "my-env:3"
        assert "868M" in first
        assert "with vim" in first
        assert second.split()[0] == "my-env:2"
    assert call("env", "list", "-q").out == "my-env:3\nmy-env:2\n"


def test_without_a_version_all_that_no_task_uses_go(call, peer, operation):
    versions = [VERSION, {**VERSION, "number": 2, "tasks": 4}]
    peer.on("GET", VERSIONS, {"name": "my-env", "newest": 3, "default": False, "versions": versions})
    peer.on("DELETE", f"{VERSIONS}/3", operation)
    ran = call("docker", "tar", "delete", "my-env")
    assert (ran.code, "tasks use my-env:2: not removed" in ran.err) == (0, True), ran.err
    assert [asked.path for asked in peer.asked if asked.method == "DELETE"] == [f"{VERSIONS}/3"]


def test_a_context_is_sent_while_it_is_read(call, peer, operation, tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Other").write_text("FROM debian:12\n")
    (folder / "big").write_bytes(b"x" * 3_000_000)
    peer.on("POST", f"{ROOT}/builds/my-env", operation)
    ran = call("env", "build", "my-env", "-f", "Other", str(folder))
    assert (ran.code, "my-env:4 is there" in ran.out) == (0, True), ran.err
    (asked,) = peer.asked_for("POST", f"{ROOT}/builds/my-env")
    assert asked.query == {"dockerfile": "Other"}
    assert b"x" * 3_000_000 in asked.body


def test_a_context_without_its_dockerfile_is_refused_here(call, peer, tmp_path):
    ran = call("env", "build", "my-env", str(tmp_path))
    assert (ran.code, "there is no Dockerfile" in ran.err) == (2, True)
    assert peer.asked == []


def test_an_archive_is_sent_as_it_is(call, peer, operation, tmp_path):
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(range(256)) * 5000)
    peer.on("POST", f"{ROOT}/imports/my-env", operation)
    ran = call("env", "import", "my-env", str(archive), "--note", "old one")
    assert ran.code == 0, ran.err
    (asked,) = peer.asked_for("POST", f"{ROOT}/imports/my-env")
    assert (asked.body, asked.query) == (archive.read_bytes(), {"note": "old one"})
    assert asked.headers["Content-Length"] == str(archive.stat().st_size)


def test_a_refusal_in_the_midst_of_an_upload_is_told(call, peer, tmp_path):
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(100))
    peer.on("POST", f"{ROOT}/imports/my-env", problem(403, "not_allowed", "operators only"))
    ran = call("env", "import", "my-env", str(archive))
    assert (ran.code != 0, "operators only" in ran.err) == (True, True)


def test_a_missing_archive_names_the_file(call, tmp_path):
    ran = call("env", "import", "my-env", str(tmp_path / "none.tar"))
    assert (ran.code != 0, "none.tar" in ran.err) == (True, True)


def test_images_of_all_nodes_or_of_one(call, peer):
    image = {
        "node": "n1", "digest": "sha256:" + "b" * 64, "names": ["kr-env-1/my-env:3"], "size": 10, "created": None,
        "used": True, "environment": "my-env:3", "problem": None,
    }  # fmt: skip
    silent = {**image, "node": "n2", "digest": "", "names": [], "environment": None, "problem": "it is not connected"}
    peer.on("GET", "/api/v1/node-images", {"items": [image, silent], "next": None})
    peer.on("GET", "/api/v1/nodes/n1/images", {"items": [image], "next": None})
    ran = call("docker", "images")
    assert "it is not connected" in ran.out
    assert "my-env:3" in call("docker", "images", "--node", "n1").out


def test_what_another_system_stored_is_told_apart(call, peer):
    item = {**VERSION, "foreign": True, "known": False}
    peer.on(
        "GET", "/api/v1/environments/stored", {"items": [item, {**item, "foreign": False, "known": True}], "next": None}
    )
    ran = call("env", "stored", "--syncer", "nfs")
    assert (ran.code, "another system's" in ran.out) == (0, True)
    assert peer.asked[0].query == {"syncer": "nfs"}


def test_a_shell_passes_its_command_and_its_code(call, peer, monkeypatch):
    asked = []

    def relay(_connection, early):
        asked.append(early)
        return 42

    monkeypatch.setattr("kohakuriver.client.terminal.relay", relay)
    raw = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: kohakuriver-stream\r\n\r\n"
    peer.on("GET", f"{CONTAINERS}/my-env/shell", Reply(raw=raw))
    ran = call("docker", "container", "shell", "my-env", "--", "sh", "-c", "exit 42")
    assert (ran.code, len(asked)) == (42, 1), ran.err
    (one,) = peer.asked_for("GET", f"{CONTAINERS}/my-env/shell")
    assert json.loads(one.query["argv"]) == ["sh", "-c", "exit 42"]
    assert one.headers["Upgrade"] == "kohakuriver-stream"


@pytest.mark.parametrize("words", [("env", "delete", "my-env:x"), ("env", "delete", "my-env:")])
def test_a_version_is_a_number(call, peer, words):
    ran = call(*words)
    assert (ran.code, "a version is a number" in ran.err) == (2, True)
    assert peer.asked == []
