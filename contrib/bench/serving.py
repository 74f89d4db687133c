"""The real executable in directories of its own: hosts, runners, labs, started, killed and cleaned up after."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
from talk import Talk

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "kohakuriver"]
PASSWORD = "a long enough password"
READY = 60.0
#: no limit that a benchmark would measure instead of the work, and nothing else that is not the default
HOST = {"rate_limit_per_second": 0}
#: of a runner's configuration
PROCESSES: Mapping[str, Any] = {"plugins.process": {"enabled": True}}
#: a mount namespace in which the machine's own folder of the product is an empty one
PRIVATE = [
    "unshare", "--mount", "sh", "-c",
    'mkdir -p /var/lib/kohakuriver && mount -t tmpfs none /var/lib/kohakuriver && exec "$0" "$@"',
]  # fmt: skip


class Process:
    """One `kohakuriver serve`."""

    def __init__(
        self, words: Sequence[str], home: Path, log: Path, before: Sequence[str] = (), program: Sequence[str] = PROGRAM
    ) -> None:
        self.words = list(words)
        #: the command, and what stands before it
        self.program = [*before, *program]
        self.env = environment(home)
        self.log = log
        self.began = 0.0
        #: seconds from the start of the process to its line `ready:`
        self.took = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Starts it and returns what stands behind `ready:`."""
        at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                [*self.program, "serve", *self.words],
                cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while time.monotonic() - self.began < READY:
            found = re.search(rb"^ready: (.*)$", self.log.read_bytes()[at:], re.MULTILINE)
            if found:
                self.took = time.monotonic() - self.began
                return found[1].decode()
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        raise SystemExit(f"{' '.join(self.words)} did not start:\n{self.log.read_text()[-3000:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Place:
    """A directory and all that runs in it; both are gone after the block."""

    def __init__(self, below: Path | None = None) -> None:
        self._below = below

    def __enter__(self) -> Self:
        self.top = Path(tempfile.mkdtemp(prefix="krb-", dir=self._below))
        self._processes: list[Process] = []
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.stop()
        for _ in range(20):
            left = processes_under(self.top)
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
            if not left:
                break
            psutil.wait_procs(left, timeout=1)
        shutil.rmtree(self.top, ignore_errors=True)

    def process(
        self,
        name: str,
        words: Sequence[str],
        settings: Mapping[str, Mapping[str, Any]],
        before: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
    ) -> Process:
        home = self.top / name
        home.mkdir(exist_ok=True)
        write_config(home, settings)
        process = Process(words, home, self.top / f"{name}.log", before, program)
        self._processes.append(process)
        return process

    def lab(self, name: str = "lab") -> tuple[Process, Talk]:
        """`--role all`, without sign-in, started. As root its file for the machine's own account stays in here."""
        words = ["--role", "all", "--port", "0", "--no-auth", "--data-dir", str(self.top / name / "data")]
        process = self.process(name, words, {"host": HOST}, PRIVATE if os.geteuid() == 0 else ())
        return process, Talk(process.start())


class Cluster:
    """A host and runners as processes of their own, joined with the printed tokens. Made in a Place."""

    def __init__(self, place: Place, **host: Any) -> None:
        self.place = place
        self.data = place.top / "host" / "data"
        words = ["--role", "host", "--bind", "127.0.0.1", "--port", "0", "--data-dir", str(self.data)]
        self.host = place.process("host", words, {"host": {**HOST, **host}})
        self.runners: list[Process] = []
        self.talk = Talk("")

    def start_host(self) -> None:
        """The first start also makes the first admin; later ones keep its token and take the port again."""
        url = self.host.start()
        if not self.talk.token:
            found = re.search(r"one-time secret: (\S+)", self.host.said())
            assert found, "no secret for the first admin"
            body = {"secret": found[1], "user": "bench", "password": PASSWORD, "token": "bench"}
            token = Talk(url).post("/api/v1/auth/setup", body)["token"]
            self.talk = Talk(url, token)
        self.host.words[self.host.words.index("--port") + 1] = url.rpartition(":")[2]
        self.talk = Talk(url, self.talk.token)

    def credential(self, name: str) -> dict[str, Any]:
        """Enrols a node: what `node.json` holds."""
        made = self.talk.post("/api/v1/node-tokens", {"name": name})
        body = {"token": made["token"], "name": name}
        while True:
            with self.talk.connect() as kept:
                status, data = kept.ask("POST", "/api/v1/join", body)
            if status == 201:
                return {"url": self.talk.url, "fingerprint": None, **json.loads(data)}
            if status != 429:  # strangers may join so many machines a second, and no more
                raise SystemExit(f"{name} cannot join: {status} {data[:500]!r}")
            time.sleep(0.2)

    def add_runner(
        self,
        name: str = "node1",
        plugins: Mapping[str, Any] = PROCESSES,
        program: Sequence[str] = PROGRAM,
        url: str | None = None,
    ) -> Process:
        """A runner process, online; with plain processes enabled unless `plugins` has other sections. `url`: where it
        dials when that is not the host itself.
        """
        data = self.place.top / name / "data"
        process = self.place.process(
            name, ["--role", "runner"], {"runner": {"data_dir": str(data)}, **plugins}, program=program
        )
        data.mkdir(mode=0o700, exist_ok=True)
        (data / "node.json").write_text(json.dumps({**self.credential(name), **({"url": url} if url else {})}))
        (data / "node.json").chmod(0o600)
        self.runners.append(process)
        process.start()
        self.until_online(name)
        return process

    def until_online(self, name: str, within: float = 30.0) -> float:
        """Seconds until the node is online."""
        began = time.monotonic()
        while self.talk.get(f"/api/v1/nodes/{name}")["status"] != "online":
            if time.monotonic() - began > within:
                told = [process.said()[-2000:] for process in (self.host, *self.runners)]
                raise SystemExit("\n".join([f"node {name} does not come up", *told]))
            time.sleep(0.01)
        return time.monotonic() - began


def environment(home: Path) -> dict[str, str]:
    """Nothing of this account's own cluster."""
    passed = {name: os.environ[name] for name in ("LANG", "PATH") if name in os.environ}
    return {**passed, "HOME": str(home), "KOHAKURIVER_CONFIG": str(home / "config.toml")}


def write_config(home: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    lines = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def processes_under(place: Path) -> list[psutil.Process]:
    """Every process with this directory in its command line, environment or working directory."""
    wanted = str(place).encode()
    found = []
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        with suppress(OSError, psutil.NoSuchProcess):
            texts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
            texts.append(os.readlink(f"/proc/{pid}/cwd").encode())
            if any(wanted in text for text in texts):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)
