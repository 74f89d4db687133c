"""H1: what somebody types, from a machine with Docker and Python to a first container task, and for one more node.

Every command is run as it stands, by an account that has an empty home and may use Docker. What is counted is what ran.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from figures import Book
from serving import ROOT, processes_under

from kohakuriver.testing.dockerd import IMAGE, Dockerd, why_not

#: nobody: as root the product would use the machine's own directories
ACCOUNT = 65534
PASSED_ON = ("LANG", "PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
#: seconds; the installation is among it
LIMIT = 300.0
PROGRAM = "kohakuriver/.venv/bin/kohakuriver"
HELLO = "hello from a container"


@dataclass
class Person:
    """Somebody at a machine: an empty home, and terminals in it."""

    home: Path
    socket: Path
    #: what was typed
    typed: list[str] = field(default_factory=list)

    def run(self, words: str) -> str:
        """Types it and waits for its end. What it said on standard output."""
        self.typed.append(words)
        done = subprocess.run(
            ["sh", "-c", words], capture_output=True, text=True, timeout=LIMIT, check=False, **self._as()
        )
        if done.returncode:
            raise SystemExit(f"H1: {words}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, words: str, until: str) -> None:
        """Types it in a terminal of its own and returns when it has said so."""
        self.typed.append(words)
        log = self.home / f"terminal-{len(self.typed)}"
        with log.open("wb") as out:
            running = subprocess.Popen(
                ["sh", "-c", words], stdout=out, stderr=out, start_new_session=True, **self._as()
            )
        deadline = time.monotonic() + LIMIT
        while not re.search(until, log.read_text(), re.MULTILINE):
            if running.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"H1: {words}: {running.poll()}\n{log.read_text()}")
            time.sleep(0.05)

    def _as(self) -> dict[str, Any]:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        path = f"{self.home}/kohakuriver/.venv/bin:/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, "HOME": str(self.home), "DOCKER_HOST": f"unix://{self.socket}"}
        return {"cwd": self.home, "env": {**passed, **env}, "stdin": subprocess.DEVNULL,
                "user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}  # fmt: skip


def from_nothing(book: Book) -> None:
    """H1."""
    reason = why_not()
    if reason is None and shutil.which("git") is None:
        reason = "needs the program git"
    if reason is not None:
        book.add("H1", "commands to the first container task", 0, "", note=f"not measured: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="krb-") as top, _docker(Path(top)) as dockerd:
        first = Person(_home(Path(top), "first"), dockerd.socket)
        began = time.monotonic()
        first.run(f"git clone --quiet {top}/kohakuriver.bundle kohakuriver")
        first.start("kohakuriver/contrib/lab.sh", "^The lab serves at ")
        said = first.run(f"{PROGRAM} run --image {IMAGE} -- echo {HELLO}")
        took = time.monotonic() - began
        assert said == f"{HELLO}\n", said
        asked = first.run("kohakuriver node token node2")
        second = Person(_home(Path(top), "second"), dockerd.socket)
        (second.home / "kohakuriver").symlink_to(first.home / "kohakuriver")
        line = next(line for line in asked.splitlines() if "node join" in line)
        second.start(line, "^ready: ")
        said = first.run(f"kohakuriver run -t node2 --image {IMAGE} -- echo {HELLO}")
        assert said == f"{HELLO}\n", said
        edited = sum(1 for home in (first.home, second.home) for _ in home.rglob(".kohakuriver/*.toml"))
        _end(Path(top))
    to_first = first.typed[:3]
    book.add("H1", "commands from a bare machine to the first container task", len(to_first), "", goal=3,
             note=f"in {took:.0f} s with the installation: {'; '.join(_plain(to_first, top))}")  # fmt: skip
    book.add("H1", "the same: files edited", edited, "", goal=0)
    book.add("H1", "commands on a further machine, once installed", len(second.typed), "", goal=1,
             note="the one that `kohakuriver node token` printed on the first; it joins and serves")  # fmt: skip


def _plain(words: list[str], top: str) -> list[str]:
    return [line.replace(f"{top}/kohakuriver.bundle", "URL") for line in words]


@contextmanager
def _docker(top: Path) -> Iterator[Dockerd]:
    top.chmod(0o755)
    subprocess.run(
        ["git", "-C", str(ROOT), "bundle", "create", "--quiet", str(top / "kohakuriver.bundle"), "HEAD"], check=True
    )
    dockerd = Dockerd(top / f"{top.name}d")
    try:
        dockerd.start()
        dockerd.load_image()
        dockerd.socket.chmod(0o666)  # as an account of the group docker has it
        yield dockerd
    finally:
        try:
            _end(top)
        finally:
            dockerd.close()


def _home(top: Path, name: str) -> Path:
    home = top / name
    home.mkdir()
    os.chown(home, ACCOUNT, ACCOUNT)
    return home


def _end(top: Path) -> None:
    """Ends what was started by hand, the daemon apart. May be called twice."""
    for name in ("first", "second"):
        left = processes_under(top / name)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(left, timeout=15)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
