"""A host, a builder, nodes behind counting relays, each with a Docker daemon of its own, and what people type there."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import trees
from serving import PROGRAM, ROOT, Cluster, Place
from tap import Tap

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

BUILDER = "builder"
#: seconds that one command may take
LIMIT = 900.0
#: what an operation says while the daemon commits
COMMITS = "the container is committed"


@dataclass(frozen=True)
class Packaged:
    """A version that was made: seconds of the whole command, and of the daemon's commit in it."""

    number: int
    took: float
    commit: float


@dataclass
class Shop:
    """Nodes have the names of their relays. `plain` is a daemon that none of them uses."""

    cluster: Cluster
    place: Place
    builder: Dockerd
    plain: Dockerd
    stack: ExitStack
    taps: dict[str, Tap] = field(default_factory=dict)

    def add_node(self, name: str) -> None:
        """A node that has no image at all."""
        daemon = self.stack.enter_context(a_daemon())
        self.stack.callback(_clear, daemon)
        daemon.docker("rmi", IMAGE)
        host, port = self.cluster.talk.url.removeprefix("http://").split(":")
        self.taps[name] = tap = Tap((host, int(port)))
        self.stack.callback(tap.close)
        process = self.cluster.add_runner(name, _plugins(daemon), url=tap.url)
        self.stack.callback(process.stop)

    def typed(self, *words: str) -> str:
        """What a command of the admin prints, which must go well."""
        env = {"KOHAKURIVER_URL": self.cluster.talk.url, "KOHAKURIVER_TOKEN": self.cluster.talk.token}
        done = subprocess.run(
            [*PROGRAM, *words], cwd=ROOT, env={**self.cluster.host.env, **env}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        if done.returncode:
            told = [process.said()[-2000:] for process in (self.cluster.host, *self.cluster.runners)]
            raise SystemExit("\n".join([f"{' '.join(words)}: exit {done.returncode}", done.stdout, done.stderr, *told]))
        return done.stdout

    def fill(self, name: str, most: int) -> int:
        """An environment container with a real Python tree; bytes of its files."""
        self.typed("docker", "container", "create", IMAGE, name)
        found = self.builder.docker("ps", "-q", "--filter", f"name={name}").split()
        assert len(found) == 1, found
        return trees.copy(["docker", "-H", f"unix://{self.builder.socket}", "cp", "-", f"{found[0]}:/"], most, name)

    def change(self, name: str, size: int) -> None:
        """So many bytes that nothing makes smaller are written in the container."""
        write = f"dd if=/dev/urandom of=/opt/change bs={size >> 3} count=8 2>/dev/null"
        self.typed("docker", "container", "shell", name, "--", "sh", "-c", write)

    def package(self, name: str) -> Packaged:
        """The container as it is becomes a version."""
        ended = threading.Event()
        commit: list[float] = []
        watching = threading.Thread(target=self._watch, args=(ended, commit))
        watching.start()
        try:
            began = time.monotonic()
            said = self.typed("docker", "tar", "create", name)
            took = time.monotonic() - began
        finally:
            ended.set()
            watching.join()
        found = re.search(rf"{name}:(\d+) is there", said)
        assert found, said
        return Packaged(int(found[1]), took, commit[-1] - commit[0] if commit else 0.0)

    def _watch(self, ended: threading.Event, commit: list[float]) -> None:
        """Gathers when an operation says that it commits, and when it first says something else."""
        while not ended.wait(0.01):
            notes = [one["note"] for one in self.cluster.talk.get("/api/v1/operations")["items"]]
            if COMMITS in notes:
                commit.append(time.monotonic())
            elif commit:
                commit.append(time.monotonic())
                return

    def run(self, name: str, node: str) -> float:
        """Seconds of a whole `kohakuriver run` in the newest version there."""
        began = time.monotonic()
        said = self.typed("run", "--container", name, "-t", node, "-c", "0", "--", "cat", f"/{trees.TOP}/word")
        assert said.startswith(name), said
        return time.monotonic() - began

    def reference(self, name: str, number: int) -> str:
        """The image's local name, on each daemon of the cluster."""
        names = self.builder.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        return next(one for one in names if one.endswith(f"/{name}:{number}"))

    def by_hand(self, reference: str) -> tuple[float, float, int]:
        """Seconds of `docker save` and of `docker load` on the plain daemon, and bytes of the tar."""
        path = self.place.top / "saved.tar"
        began = time.monotonic()
        self.builder.docker("save", "-o", str(path), reference, limit=LIMIT)
        saved = time.monotonic()
        self.plain.docker("load", "-i", str(path), limit=LIMIT)
        loaded = time.monotonic()
        size = path.stat().st_size
        path.unlink()
        return saved - began, loaded - saved, size


@contextmanager
def a_shop() -> Iterator[Shop]:
    """With the builder, and no node yet. Nothing is left of it."""
    with ExitStack() as stack:
        builder = stack.enter_context(a_daemon())
        plain = stack.enter_context(a_daemon())
        place = stack.enter_context(Place())
        cluster = Cluster(place, builder=BUILDER)
        cluster.start_host()
        cluster.add_runner(BUILDER, _plugins(builder))
        yield Shop(cluster, place, builder, plain, stack)


def _clear(daemon: Dockerd) -> None:
    """Returns when no container is left; one that is being removed already cannot be removed."""
    for _ in range(30):
        names = daemon.docker("ps", "-aq").split()
        if not names:
            return
        with suppress(subprocess.CalledProcessError):
            daemon.docker("rm", "-f", *names)
        time.sleep(1)


def _plugins(daemon: Dockerd) -> dict[str, dict[str, object]]:
    docker = {"enabled": True, "socket": str(daemon.socket), "network": "none"}
    return {"plugins.docker": docker, "plugins.process": {"enabled": False}}
