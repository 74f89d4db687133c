"""The README's first command, as a stranger runs it: a bare account, an empty home, no Docker, the checkout as it is."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534
#: the installation is part of it, and this machine may be slow
LIMIT = 300
PASSED_ON = ("LANG", "PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Stranger:
    """An account that has nothing but a checkout and an empty home."""

    top: Path
    became: tuple[str, ...]
    python: str

    @property
    def checkout(self) -> Path:
        return self.top / "kohakuriver"

    @property
    def env(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {
            **passed,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.top / "home"),
            "DOCKER_HOST": "tcp://127.0.0.1:1",
            "PYTHON": self.python,
        }

    def runs(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.became, *words], cwd=self.checkout, env={**self.env, **more}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    def starts(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["env", "--default-signal=INT", *self.became, *words], cwd=self.checkout, env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def left_running(self) -> list[str]:
        """Command lines of what still runs out of the checkout."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.top) in line:
                found.append(line)
        return found


def _copy_of_the_tree(to: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listing.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    root = os.geteuid() == 0
    top = Path(tempfile.mkdtemp(prefix="stranger-"))
    try:
        _copy_of_the_tree(top / "kohakuriver")
        (top / "home").mkdir()
        if root:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(top)], check=True)
        became = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if root else ()
        # another account may not be able to reach the interpreter that runs this
        yield Stranger(top=top, became=became, python="/usr/bin/python3" if root else sys.executable)
    finally:
        shutil.rmtree(top)


def test_the_lab_installs_itself_runs_a_first_task_and_goes(stranger: Stranger) -> None:
    done = stranger.runs("./contrib/lab.sh", "--once")
    assert done.returncode == 0, done.stderr
    assert "hello from task" in done.stdout
    assert stranger.left_running() == []


def test_the_second_time_nothing_is_installed_and_a_taken_port_is_no_trouble(stranger: Stranger) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        done = stranger.runs("./contrib/lab.sh", "--once")
    assert done.returncode == 0, done.stderr
    assert "hello from task" in done.stdout
    assert "port 8000 is taken" in done.stderr
    assert "installing" not in done.stderr


def test_a_port_that_was_asked_for_and_is_taken_is_said_so(stranger: Stranger) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = stranger.runs("./contrib/lab.sh", "--once", KOHAKURIVER_PORT=port)
    assert done.returncode == 1
    assert port in done.stderr


@contextmanager
def a_lab_that_serves(stranger: Stranger, stop: Callable[[subprocess.Popen[str]], None]) -> Iterator[str]:
    """What a lab said until it served; afterwards it was stopped, in time and well."""
    with stranger.starts("./contrib/lab.sh") as lab:
        assert lab.stdout is not None
        try:
            said = ""
            for line in lab.stdout:
                said += line
                if line.strip().endswith("task list"):
                    break
            assert lab.poll() is None, said
            yield said
            stop(lab)
            assert lab.wait(timeout=60) == 0, lab.stdout.read()
        finally:
            if lab.poll() is None:
                os.killpg(lab.pid, signal.SIGKILL)


def ctrl_c(lab: subprocess.Popen[str]) -> None:
    """As a terminal does: to the whole foreground group."""
    os.killpg(lab.pid, signal.SIGINT)


def test_it_serves_until_ctrl_c_and_the_three_things_to_try_work(stranger: Stranger) -> None:
    with a_lab_that_serves(stranger, ctrl_c) as said:
        tries = re.findall(r"^  (.*kohakuriver .+)$", said, re.MULTILINE)
        assert len(tries) == 3, said
        for command in tries:
            tried = stranger.runs("sh", "-c", command)
            assert tried.returncode == 0, f"{command}: {tried.stderr}"
    assert stranger.left_running() == []


def test_the_readmes_commands_run_in_a_lab(stranger: Stranger) -> None:
    page = (ROOT / "README.md").read_text().split("## Two commands")[1].split("\n## ")[0]
    commands = re.findall(r"^\$ (kohakuriver .+)$", page, re.MULTILINE)
    assert commands
    with a_lab_that_serves(stranger, subprocess.Popen.terminate):
        for command in commands:
            done = stranger.runs("sh", "-c", f"PATH=$PWD/.venv/bin:$PATH; {command}")
            assert done.returncode == 0, f"{command}: {done.stderr}"


def test_an_unknown_option_is_refused(stranger: Stranger) -> None:
    done = stranger.runs("./contrib/lab.sh", "--twice")
    assert done.returncode == 2
    assert "--twice" in done.stderr
