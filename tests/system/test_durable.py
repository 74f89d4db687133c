"""What the host has answered is on the disk: fsync before the answer, requests given up, full disks, strange clocks."""

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .cluster import Cluster, a_cluster, end_all
from .kills import check_all
from .serving import run
from .startlog import Work, processes_of
from .talk import FINAL
from .waits import until


def need(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs the program {program} (Debian: {package})")


# the disk before the answer


@need("strace", "strace")
def test_the_log_is_synced_before_a_submit_is_answered(cluster: Cluster, tmp_path: Path) -> None:
    """P2: between the last write to the write-ahead log and the 201 lies an fdatasync of it."""
    trace = tmp_path / "trace"
    strace = subprocess.Popen(
        ["strace", "-f", "-y", "-tt", "-s", "80", "-e", "trace=fsync,fdatasync,pwrite64,write,sendto,sendmsg,writev",
         "-o", str(trace), "-p", str(cluster.host.pid)],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert strace.stderr is not None
        said = strace.stderr.readline().decode()
        if "attached" not in said:
            pytest.skip(f"needs a kernel on which strace may attach: {said.strip()}")
        # drained: no other write of the scheduler or of a report comes between
        cluster.api.post("/api/v1/nodes/one/drain", {"reason": "they need not run"})
        for number in range(10):
            cluster.api.submit("true", name=f"synced-{number}")
    finally:
        cluster.api.post("/api/v1/nodes/one/undrain")
        strace.terminate()
        strace.wait(timeout=60)
        strace.stderr.close()
    violations, answers = unsynced_answers(trace.read_text(errors="replace").splitlines())
    assert answers >= 10, "the answers were not seen"
    assert violations == 0


def unsynced_answers(lines: list[str]) -> tuple[int, int]:
    """How many 201s went out while the log had writes that no finished fsync covered, of how many."""
    dirty = False
    violations = answers = 0
    syncing: set[str] = set()
    for line in lines:
        thread = line.split()[0]
        if "pwrite64(" in line and "-wal>" in line:
            dirty = True
        elif re.search(r"\b(fsync|fdatasync)\(", line) and "-wal>" in line:
            if "unfinished" in line:
                syncing.add(thread)
            else:
                dirty = False
        elif "sync resumed" in line and thread in syncing:
            syncing.discard(thread)
            dirty = False
        elif "HTTP/1.1 201" in line:
            answers += 1
            violations += dirty
    return violations, answers


def test_thousands_of_requests_given_up_leave_a_store_that_works(cluster: Cluster) -> None:
    """P13: clients that go away at any moment of their request; whoever was answered finds the task."""
    cluster.api.post("/api/v1/nodes/one/drain", {"reason": "they need not run"})
    given_up = 3000
    body = json.dumps({"command": ["true"], "name": "given-up"}).encode()
    head = (
        f"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:{cluster.port}\r\nAuthorization: Bearer {cluster.api.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    kept: list[str] = []
    stop = threading.Event()

    def patient() -> None:
        while not stop.is_set():
            kept.append(cluster.api.submit("true", name="kept"))

    others = threading.Thread(target=patient)
    others.start()
    try:
        for number in range(given_up):
            with socket.create_connection(("127.0.0.1", cluster.port), 5) as client:
                client.sendall(head + body[: len(body) if number % 3 else 5])
                if number % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if number % 3 and number % 7 == 0:
                    client.recv(1)
    finally:
        stop.set()
        others.join(30)
    began = time.monotonic()
    kept.append(cluster.api.submit("true", name="kept"))
    took = time.monotonic() - began
    print(f"{given_up} given up, {len(kept)} kept; the next write took {took:.3f} s")
    assert took < 30
    views = cluster.api.all_tasks()
    assert [task for task in kept if task not in views] == []
    cluster.api.post("/api/v1/nodes/one/undrain")
    for task, view in views.items():
        if view["status"] == "pending":
            cluster.api.ask("POST", f"/api/v1/tasks/{task}/kill", {})


# full disks


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)], check=False)
    if done.returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(place: Path) -> Path:
    """A file that takes what is left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65536) == 65536:
            pass
        while file.write(b"\0" * 512) == 512:
            pass
    return ballast


@pytest.mark.root
def test_a_host_without_room_says_so_loses_nothing_and_heals() -> None:
    """P16: 507 and never 500; nothing acknowledged is lost; running tasks are unaffected; heals without a restart."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made, small_disk(made.data, "32m"):
        made.start_host()
        made.add_runner("one")
        work = Work("through", 4.0, 1000, 23)
        running = made.api.submit(*work.command, cores=0, env=made.log.env)
        made.until_status(running, "running")
        ballast = fill(made.data)
        statuses: set[int] = set()
        kept = []
        for _ in range(30):
            answer = made.api.ask("POST", "/api/v1/tasks", {"command": ["true"], "name": "x" * 100})
            statuses.add(answer.status)
            if answer.status == 201:
                kept += answer.json["tasks"]
            else:
                assert answer.status == 507, answer.body
                assert (
                    "free" in answer.json["detail"]
                    or "full" in answer.json["detail"]
                    or "room" in answer.json["detail"]
                )
        assert 507 in statuses
        assert made.api.task(running)["status"] in {"running", *FINAL}
        until(lambda: made.log.ends_of(running), within=60, what="the task ends while the disk is full")
        assert made.api.ask("GET", "/readyz").status in (200, 503)
        ballast.unlink()
        freed = time.monotonic()
        until(
            lambda: made.api.ask("POST", "/api/v1/tasks", {"command": ["true"]}).status == 201,
            within=60, what="it takes tasks again", tell=made.story,
        )  # fmt: skip
        print(f"healed {time.monotonic() - freed:.1f} s after room was made")
        made.until_status(running, *FINAL, within=60)
        check_all(made, {running: work})
        for task in kept:
            made.until_status(task, "completed")
        assert made.host.lives == 1
        made.host.stop()
        with contextlib.closing(sqlite3.connect(made.data / "store.sqlite3")) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.root
def test_a_runner_without_room_counts_what_it_drops_and_loses_no_exit_code() -> None:
    with a_cluster(heartbeat_interval_seconds=1.0) as made, small_disk(made.top / "one-disk", "24m") as disk:
        made.start_host()
        runner = made.add_runner("one", start=False)
        shutil.copytree(runner.data, disk / "data")
        runner.server.words = [*runner.server.words, "--data-dir", str(disk / "data")]
        runner.server.start()
        made.until_online("one")
        loud = made.api.submit(
            "sh", "-c", f"while [ ! -e {made.top}/go ]; do sleep 0.05; done; head -c 6000000 /dev/zero; exit 9", cores=0
        )
        made.until_status(loud, "running")
        ballast = fill(disk)
        (made.top / "go").touch()
        refused = made.api.submit("true", cores=0)
        time.sleep(3)
        assert runner.server.runs, runner.server.story()
        ballast.unlink()
        view = made.until_status(loud, *FINAL, within=30)
        assert view["exit"]["code"] == 9, made.told(loud)
        (attempt,) = made.api.get(f"/api/v1/tasks/{loud}/attempts")["items"]
        kept = made.api.output(loud)
        print(f"{attempt['stdout_bytes']} bytes were written, {len(kept)} kept")
        assert attempt["stdout_bytes"] == 6_000_000
        made.until_status(refused, "completed", within=30)
        again = made.api.submit("sh", "-c", "echo healed", cores=0)
        made.until_status(again, "completed")
        assert made.api.output(again) == b"healed\n"


# clocks


@need("faketime", "faketime")
@pytest.mark.parametrize("role", ["host", "runner"])
def test_a_clock_that_steps_ends_nothing_and_declares_nobody_offline(role: str) -> None:
    """P20: wall clocks are for people; leases, limits and silence are counted otherwise."""
    with a_cluster(heartbeat_interval_seconds=1.0, lost_after="10m") as made:
        rate = made.top / "faketime"
        rate.write_text("+0\n")
        made.start_host()
        runner = made.add_runner("one", start=False)
        server = made.host if role == "host" else runner.server
        faked = {
            "LD_PRELOAD": faketime_library(), "FAKETIME_TIMESTAMP_FILE": str(rate), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        if role == "host":
            made.host.stop()
            made.host.start(**faked)
            runner.server.start()
        else:
            runner.server.start(**faked)
        made.until_online("one")
        limited = made.api.submit("sleep", "1000", cores=0, time_limit=10, grace=0)
        made.until_status(limited, "running")
        began = time.monotonic()
        for step in ("+1d", "-1d"):
            rate.write_text(f"{step}\n")
            seen = set()
            stepped = time.monotonic()
            while time.monotonic() - stepped < 2.5:
                seen.add((made.api.node("one")["status"], made.api.status(limited)))
                time.sleep(0.1)
            assert seen == {("online", "running")}, server.story()
        view = made.until_status(limited, "timed_out", within=60)
        assert time.monotonic() - began > 6
        assert view["exit"]["signal"] in {9, 15}
        ahead = -86400 if role == "runner" else 86400
        until(
            lambda: abs(made.api.node("one")["skew"] - ahead) < 60,
            within=60, what=f"the node shows that its clock is {ahead} s ahead", tell=made.story,
        )  # fmt: skip
        task = made.api.submit("true", cores=0)
        made.until_status(task, "completed")


def faketime_library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime comes with the package faketime"
    return str(found[0])


# who may open the data


def test_an_older_program_refuses_a_newer_schema_and_names_both_versions() -> None:
    with a_cluster() as made:
        made.start_host()
        made.host.stop()
        with contextlib.closing(sqlite3.connect(made.data / "store.sqlite3")) as store, store:
            (table,) = store.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%migrations%'"
            ).fetchone()
            columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
            row = dict(zip(columns, store.execute(f"SELECT * FROM {table} ORDER BY id DESC").fetchone(), strict=True))
            row |= {"id": 99, "name": "0099_from_the_future"}
            marks = ", ".join("?" * len(row))
            store.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        before = (made.data / "store.sqlite3").read_bytes()
        done = run(["serve", *made.host.words], made.env, within=30)
        assert done.returncode == 1, done.stderr
        assert "0099_from_the_future" in done.stderr
        assert re.search(r"with schema \d{4}_", done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        assert (made.data / "store.sqlite3").read_bytes() == before


def test_a_second_server_and_a_taken_port_are_refused_in_words(cluster: Cluster) -> None:
    second = run(
        ["serve", "--role", "host", "--bind", "127.0.0.1", "--port", "0", "--data-dir", str(cluster.data)], cluster.env
    )
    assert second.returncode not in (0, None)
    assert str(cluster.host.pid) in second.stderr, second.stderr
    taken = run(
        [
            "serve",
            "--role",
            "host",
            "--bind",
            "127.0.0.1",
            "--port",
            str(cluster.port),
            "--data-dir",
            str(cluster.top / "x"),
        ],
        cluster.env,
    )
    assert taken.returncode == 2
    assert str(cluster.port) in taken.stderr
    assert "Traceback" not in second.stderr + taken.stderr
    assert cluster.api.node("one")["status"] == "online"


# stopping


def test_sigterm_under_load_ends_in_time_with_nothing_lost_and_no_work_touched(cluster: Cluster) -> None:
    """P18."""
    stays = cluster.api.submit("sleep", "1000", cores=0)
    cluster.until_status(stays, "running")
    (process,) = processes_of(stays)
    began = process.create_time()
    acknowledged: list[str] = []
    odd: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                answer = cluster.api.ask("POST", "/api/v1/tasks", {"command": ["true"]})
            except OSError:
                time.sleep(0.02)
                continue
            except Exception as error:
                odd.append(repr(error))
                continue
            if answer.status == 201:
                acknowledged.extend(answer.json["tasks"])
            elif answer.status != 503:
                odd.append(f"{answer.status} {answer.body!r}")

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            time.sleep(0.5)
            assert cluster.host.stop() == 0
            cluster.host.start()
    finally:
        stop.set()
        for client in clients:
            client.join(30)
    assert cluster.runners["one"].server.stop() == 0
    assert process.create_time() == began
    assert process.is_running()
    cluster.runners["one"].server.start()
    cluster.until_online("one")
    views = cluster.api.all_tasks()
    assert [task for task in acknowledged if task not in views] == []
    assert [text for text in odd if not re.search("RemoteDisconnected|IncompleteRead|BadStatusLine", text)] == []
    assert not os.path.getsize(cluster.data / "store.sqlite3-wal") > 64 * 1024**2
    end_all(cluster)
