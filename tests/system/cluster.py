"""A cluster of real processes on this machine: hosts and runners, joined with the printed command, cleaned up after."""

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from .serving import Server, clean_environment, run
from .startlog import StartLog, processes_under
from .talk import FINAL, Talk
from .waits import until

PASSWORD = "a long enough password"


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections, so that a host which is down keeps it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Runner:
    """One node: its home, its server, and how many cores it may offer."""

    def __init__(self, cluster: "Cluster", name: str, before: Sequence[str], settings: dict[str, Any]) -> None:
        self.name = name
        self.before = tuple(before)
        self.home = cluster.top / name
        self.home.mkdir()
        self.data = self.home / "data"
        self.env = clean_environment(self.home, **cluster.more)
        process = {"enabled": True, "idle_seconds": 1, **settings.pop("process", {})}
        docker = {"enabled": False, **settings.pop("docker", {})}
        more = {f"plugins.{name}": section for name, section in settings.pop("plugins", {}).items()}
        runner = {"data_dir": str(self.data), **settings}
        write_config(self.home, {"runner": runner, "plugins.process": process, "plugins.docker": docker, **more})
        self.server = Server(
            words=["--role", "runner"],
            log=cluster.top / f"{name}.log", env=self.env, before=before,
        )  # fmt: skip
        #: where the command `kohakuriver` lies
        self.folder = program_folder()

    def join(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs what `node token` printed, in a shell, as a person would."""
        words = shlex.split(command)
        assert words, command
        return subprocess.run(
            [*self.before, "bash", "-c", command], env={**self.env, "PATH": f"{self.folder}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


class Cluster:
    """`host` and `runners`, and `api`, signed in as the admin."""

    def __init__(self, top: Path, *, bind: str = "127.0.0.1", before: Sequence[str] = (), **settings: Any) -> None:
        self.top = top
        self.before = tuple(before)
        self.more: dict[str, str] = {}
        self.home = top / "host"
        self.home.mkdir()
        self.data = self.home / "data"
        self.log = StartLog(top / "starts.log")
        self.env = clean_environment(self.home)
        settings = {"rate_limit_per_second": 0, "default_grace": "2s", "disk_floor": "1M", **settings}
        write_config(self.home, {"host": settings})
        port = free_port()
        words = ["--role", "host", "--bind", bind, "--port", str(port), "--data-dir", str(self.data)]
        self.host = Server(words=words, log=top / "host.log", env=self.env, before=before)
        scheme = "http" if bind.startswith("127.") else "https"
        self.url = f"{scheme}://{bind}:{port}"
        self.port = port
        self.api = Talk(self.url)
        self.runners: dict[str, Runner] = {}

    def start_host(self) -> None:
        """The first life also makes the first admin."""
        self.host.start()
        found = re.search(r"one-time secret: (\S+)", self.host.said())
        if found and not self.api.token:
            body = {"secret": found[1], "user": "admin", "password": PASSWORD, "token": "tests"}
            answer = self.api.post("/api/v1/auth/setup", body)
            self.api = self.api.signed_in(answer["token"])

    def add_runner(
        self, name: str, *, url: str | None = None, before: Sequence[str] = (), start: bool = True,
        folder: Path | None = None, **settings: Any
    ) -> Runner:  # fmt: skip
        """A node joined with the printed command; `url` is where it dials when that is not the host itself, `folder`
        where an installation of its own has the command `kohakuriver`.
        """
        runner = Runner(self, name, before, settings)
        if folder is not None:
            runner.folder, runner.server.program = folder, [str(folder / "kohakuriver")]
        done = runner.join(self.join_command(name))
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.story()}"
        if url is not None:
            runner.server.words = [*runner.server.words, "--url", url]
        self.runners[name] = runner
        if start:
            runner.server.start()
            self.until_online(name)
        return runner

    def join_command(self, name: str) -> str:
        """What joins the machine; the printed line goes on to serve, which a test does itself."""
        done = self.cli("node", "token", name)
        assert done.returncode == 0, done.stderr
        joins, goes_on, serves = done.stdout.strip().partition(" && ")
        assert goes_on, done.stdout
        assert serves == "kohakuriver serve --role runner", done.stdout
        return joins

    def cli(self, *words: str, within: float = 120.0, data: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """A command of the admin, in the host's namespace."""
        return run(words, self.as_admin(**env), before=self.before, within=within, data=data)

    def as_admin(self, **env: str) -> dict[str, str]:
        """The environment of the admin's commands."""
        more = {"KOHAKURIVER_URL": self.url, "KOHAKURIVER_TOKEN": self.api.token, **env}
        if self.url.startswith("https"):
            more["KOHAKURIVER_FINGERPRINT"] = self.fingerprint
        return {**self.env, **more}

    @property
    def fingerprint(self) -> str:
        found = re.search(r"certificate: sha256:(\S+)", self.host.log.read_text())
        assert found, self.host.story()
        return found[1]

    def until_online(self, name: str, within: float = 60.0) -> None:
        self.until_node(name, "online", within)

    def until_node(self, name: str, status: str, within: float) -> None:
        until(
            lambda: self.api.node(name)["status"] == status,
            within=within, what=f"node {name} is {status}", tell=self.story,
        )  # fmt: skip

    def until_status(self, task: str, *statuses: str, within: float = 60.0) -> dict[str, Any]:
        """The task, once it is in one of these."""

        def look() -> dict[str, Any] | None:
            view = self.api.task(task)
            return view if view["status"] in statuses else None

        return until(look, within=within, what=f"task {task} is {' or '.join(statuses)}", tell=lambda: self.told(task))

    def told(self, task: str) -> str:
        """Everything about a task, for a failure message."""
        try:
            lines = [str(self.api.task(task)), *map(str, self.api.history(task))]
        except OSError as error:
            lines = [f"the host does not answer: {error!r}"]
        return "\n".join(lines) + "\n" + self.story()

    def story(self) -> str:
        return "\n".join(server.story() for server in self.servers())

    def servers(self) -> list[Server]:
        return [self.host, *(runner.server for runner in self.runners.values())]

    def close(self) -> None:
        """Ends every process that has anything to do with this cluster."""
        for server in self.servers():
            server.kill()
        for _ in range(10):
            left = processes_under(self.top)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            if not left:
                return
            psutil.wait_procs(left, timeout=1)
        raise AssertionError(f"cannot be ended: {left}")


@contextmanager
def a_cluster(*, top: Path | None = None, **settings: Any) -> Iterator[Cluster]:
    """A directory with a short name (sockets), a cluster in it, both gone afterwards. Its host is not started yet."""
    place = Path(tempfile.mkdtemp(prefix="kr-", dir=top))
    cluster = Cluster(place, **settings)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(place, ignore_errors=True)


def end_all(cluster: Cluster) -> None:
    """Kills what has not ended, for the next test."""
    for task, view in cluster.api.all_tasks().items():
        if view["status"] not in FINAL:
            cluster.api.ask("POST", f"/api/v1/tasks/{task}/kill", {"grace": 0})
            cluster.until_status(task, *FINAL)


def write_config(home: Path, sections: dict[str, dict[str, Any]]) -> None:
    lines = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def program_folder() -> Path:
    """A folder in which the command `kohakuriver` lies, as a person has it on PATH."""
    import sys

    return Path(sys.executable).parent
