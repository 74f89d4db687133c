"""The lab from end to end through its commands: `serve --role all` in one process, an account that signs in unasked."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .serving import ROOT, Server, clean_environment, run
from .startlog import processes_of, processes_under
from .waits import until

NOBODY = 65534


@dataclass(frozen=True)
class Lab:
    """`serve --role all` as an account without rights, where this one may become it."""

    home: Path
    server: Server
    before: tuple[str, ...]

    def cli(self, *words: str, within: float = 120.0, data: str = "") -> subprocess.CompletedProcess[str]:
        return run(words, self.server.env, before=self.before, within=within, data=data)

    def good(self, *words: str, data: str = "") -> str:
        """What a command that must succeed prints."""
        done = self.cli(*words, data=data)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.server.story()}"
        return done.stdout

    def json(self, *words: str):
        return json.loads(self.good(*words, "-o", "json"))

    def submit(self, *words: str) -> str:
        return self.good("task", "submit", "-q", *words).strip()

    def until_status(self, task: str, *statuses: str, within: float = 60.0) -> dict:
        def look():
            view = self.json("task", "status", task)
            return view if view["status"] in statuses else None

        return until(look, within=within, what=f"task {task} is {statuses}", tell=self.server.story)


def another_account() -> tuple[str, ...]:
    """What makes a command run as nobody; nothing where that account cannot reach the interpreter or the checkout."""
    if os.geteuid() != 0:
        return ()
    became = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # through a shell: the account must find it without the rights that setpriv itself still has
    words = [*became, "sh", "-c", 'exec "$0" -c "import kohakuriver"', sys.executable]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
    return became if done.returncode == 0 else ()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    home = Path(tempfile.mkdtemp(prefix="kr-"))
    before = another_account()
    if before:
        os.chown(home, NOBODY, NOBODY)
    env = clean_environment(home)
    config = "[host]\nrate_limit_per_second = 0\ndisk_floor = '1M'\n[plugins.process]\nidle_seconds = 0.5\n"
    (home / "config.toml").write_text(config)
    words = ["--role", "all", "--port", "0", "--data-dir", str(home / "data")]
    server = Server(words=words, log=home / "log", env=env, before=before)
    made = Lab(home, server, before)
    try:
        server.start()
        yield made
    finally:
        server.kill()
        for process in processes_under(home):
            process.kill()
        shutil.rmtree(home, ignore_errors=True)


def test_a_first_task_its_output_and_its_exit_code(lab: Lab) -> None:
    done = lab.cli("task", "submit", "--wait", "--logs", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "err\n" in done.stderr
    assert lab.cli("run", "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert lab.cli("run", "--", "true").returncode == 0
    never = lab.cli("run", "--", "/no/such/program")
    assert never.returncode == 125
    assert "/no/such/program" in lab.json("task", "list", "-l", "1")["items"][0]["exit"]["reason"]


def test_logs_apart_in_part_and_followed(lab: Lab) -> None:
    task = lab.submit("--", "sh", "-c", "echo a; sleep 1; echo b; echo e >&2; echo c")
    began = time.monotonic()
    assert lab.good("task", "logs", "-f", task) == "a\nb\nc\n"
    assert time.monotonic() - began < 15
    lab.until_status(task, "completed")
    assert lab.good("task", "logs", task) == "a\nb\nc\n"
    assert lab.good("task", "logs", "--stderr", task) == "e\n"
    assert lab.good("task", "logs", "--tail", "2", task) == "b\nc\n"
    assert lab.good("task", "logs", "--offset", "2", task) == "b\nc\n"


def test_environment_name_script_and_standard_input(lab: Lab) -> None:
    task = lab.submit("-n", "named", "-e", "COLOR=green", "--", "sh", "-c", "echo $COLOR $KOHAKURIVER_TASK_NAME")
    lab.until_status(task, "completed")
    assert lab.good("task", "logs", "named") == "green named\n"
    assert lab.good("task", "logs", task[-6:]) == "green named\n"
    script = lab.home / "job.sh"
    script.write_text("#!/bin/sh\necho script $1 $2\nexit 4\n")
    done = lab.cli("task", "submit", "--wait", "--logs", "--script", str(script), "--", "one", "two words")
    assert (done.returncode, done.stdout) == (4, "script one two words\n")
    done = lab.cli("task", "submit", "--wait", "--logs", "--script", "-", data="#!/bin/sh\necho from stdin\n")
    assert (done.returncode, done.stdout) == (0, "from stdin\n")


def test_a_secret_reaches_the_task_and_nobody_else(lab: Lab) -> None:
    done = lab.cli("task", "submit", "--wait", "--logs", "--secret", "KEY=hunter2", "--", "sh", "-c", "echo ${#KEY}")
    assert (done.returncode, done.stdout) == (0, "7\n")
    (task,) = lab.json("task", "list", "-l", "1")["items"]
    shown = [lab.good("task", verb, task["id"], "-o", "json") for verb in ("status", "history", "attempts")]
    assert "hunter2" not in "".join(shown) + lab.server.log.read_text()
    assert lab.json("task", "status", task["id"])["secrets"] == ["KEY"]


def test_kill_pause_resume_and_history(lab: Lab) -> None:
    task = lab.submit("--", "sh", "-c", "sleep 1000 & wait")
    lab.until_status(task, "running")
    lab.good("task", "pause", task)
    lab.until_status(task, "paused")
    assert {process.status() for process in processes_of(task)} <= {"stopped", "disk-sleep", "sleeping"}
    lab.good("task", "resume", task)
    lab.until_status(task, "running")
    lab.good("task", "kill", task)
    ended = lab.until_status(task, "killed")
    assert ended["exit"]["signal"] == 15
    assert processes_of(task) == []
    story = [event["what"] for event in lab.json("task", "history", task)["items"]]
    assert story[:4] == ["submitted", "placed", "accepted", "started"]
    assert {"pause_wanted", "paused", "resume_wanted", "resumed", "kill_wanted", "exited"} <= set(story)
    actors = {event["what"]: event["actor"] for event in lab.json("task", "history", task)["items"]}
    assert actors["placed"] == "scheduler"
    assert actors["exited"].startswith("node ")
    assert lab.cli("task", "kill", task).returncode == 5


def test_a_time_limit_with_grace(lab: Lab) -> None:
    polite = lab.submit(
        "--time-limit", "1s", "--grace", "5s", "--", "sh", "-c", "trap 'echo bye; exit 3' TERM; sleep 100 & wait"
    )
    rude = lab.submit(
        "--time-limit", "1s", "--grace", "1s", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"
    )
    view = lab.until_status(polite, "timed_out", within=30)
    assert view["exit"]["code"] == 3
    assert lab.good("task", "logs", polite) == "bye\n"
    assert lab.until_status(rude, "timed_out")["exit"]["signal"] == 9
    assert processes_of(rude) == []


def test_explain_wait_status_and_lists(lab: Lab) -> None:
    task = lab.submit("--", "sleep", "1")
    timed = lab.cli("task", "wait", task, "--timeout", "0s")
    assert timed.returncode == 124
    assert lab.cli("task", "wait", task).returncode == 0
    assert "completed" in lab.good("task", "explain", task)
    assert lab.cli("task", "status", "99999999").returncode == 3
    assert task in lab.good("task", "list")
    assert lab.good("task", "list", "-s", "completed", "-l", "1", "-q").strip() == task
    (node,) = lab.json("node", "list")["items"]
    assert node["status"] == "online"
    assert re.search(r"cores|tasks", lab.good("status"))


def test_a_wait_goes_on_over_a_restart_and_work_is_taken_up(lab: Lab) -> None:
    task = lab.submit("--", "sh", "-c", "echo before; sleep 6; echo after; exit 5")
    lab.until_status(task, "running")
    (shell, *_) = processes_of(task)
    born = shell.create_time()
    port = re.search(r":(\d+)$", lab.server.ready())
    assert port is not None
    assert lab.server.stop() == 0
    assert shell.is_running()
    lab.server.words = [*lab.server.words[:3], port[1], *lab.server.words[4:]]
    lab.server.start()
    assert lab.cli("task", "wait", task, within=60).returncode == 5
    assert shell.create_time() == born or not shell.is_running()
    assert lab.good("task", "logs", task) == "before\nafter\n"
    lab.server.again()
    assert lab.good("task", "logs", task) == "before\nafter\n"
    assert lab.cli("run", "--", "true").returncode == 0


def test_the_labs_files_are_its_owners_alone(lab: Lab) -> None:
    for path in (lab.home / "data").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path
    record = lab.home / ".kohakuriver" / "lab.json"
    if lab.before or os.geteuid() != 0:
        assert record.stat().st_mode & 0o777 == 0o600


def test_when_it_stops_nothing_is_left(lab: Lab) -> None:
    assert lab.server.stop() == 0
    until(lambda: not processes_under(lab.home), within=60, what="the shepherd goes when it holds nothing")
