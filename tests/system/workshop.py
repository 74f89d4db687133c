"""A cluster in which environments are made on one node and used on another, each with a Docker daemon of its own."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon
from tests.plugins.oci_registry import OciRegistry, a_registry

from .cluster import Cluster, a_cluster, free_port
from .faultproxy import FaultProxy, Way

BUILDER, NODE = "alpha", "beta"
SYNCERS = ("direct", "nfs", "registry")


class Wire:
    """What the node fetches of the host, seen on its connection."""

    def __init__(self) -> None:
        self.contents: Counter[str] = Counter()
        self.bytes = 0

    def tap(self, way: Way, data: bytes) -> None:
        if way == "down":
            self.bytes += len(data)
            return
        for digest in re.findall(rb"GET /node/blobs/(?:sha256:|sha256%3A)([0-9a-f]{64}) ", data):
            self.contents[digest.decode()] += 1


@dataclass
class Workshop:
    """`daemons` by node: the one that makes environments, and the one that has never seen any."""

    cluster: Cluster
    daemons: dict[str, Dockerd]
    syncer: str
    wire: Wire
    #: where what was published lies, whichever way
    medium: Path
    #: the registry as the node's daemon reaches it
    registry: OciRegistry | None = None

    def ok(self, *words: str, **more: Any) -> str:
        """What a command of the admin prints, which must go well."""
        done = self.cluster.cli(*words, **more)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.cluster.story()}"
        return done.stdout

    def refused(self, *words: str, **more: Any) -> str:
        """What it says when it must not go well."""
        done = self.cluster.cli(*words, **more)
        assert done.returncode != 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stderr

    def create(self, name: str, image: str = IMAGE) -> None:
        self.ok("docker", "container", "create", image, name)

    def change(self, name: str, text: str) -> None:
        """Something is done in the container."""
        self.ok("docker", "container", "shell", name, "--", "sh", "-c", text)

    def package(self, name: str) -> int:
        """The number of the version that it becomes."""
        said = self.ok("docker", "tar", "create", name)
        found = re.search(rf"{name}:(\d+) is there", said)
        assert found, said
        return int(found[1])

    def seen(self, container: str | None, *words: str, node: str = NODE) -> str:
        """What a task prints that runs these words in an environment."""
        within = ["--container", container] if container is not None else []
        return self.ok("run", *within, "-t", node, "-c", "0", "--", *words)

    def versions(self, name: str) -> list[int]:
        """Numbers, newest first."""
        found = self.cluster.api.get("/api/v1/environments")["items"]
        return [one["number"] for each in found if each["name"] == name for one in each["versions"]]

    def fetched(self) -> Counter[str]:
        """How often the node fetched each content, as far as it goes by contents."""
        if self.registry is None:
            return Counter(self.wire.contents)
        return Counter(digest for digest, _ in self._log())

    def fetched_bytes(self) -> int:
        return self.wire.bytes if self.registry is None else sum(size for _, size in self._log())

    def _log(self) -> list[tuple[str, int]]:
        """Contents that the registry gave to the node's daemon."""
        assert self.registry is not None
        text = (self.registry.folder / "log").read_text(errors="replace")
        found = re.findall(r'"GET /v2/\S+/blobs/sha256:([0-9a-f]{64}) HTTP/1.1" 200 (\d+)', text)
        return [(digest, int(size)) for digest, size in found]


@contextmanager
def a_workshop(daemons: dict[str, Dockerd], syncer: str = "direct", **settings: Any) -> Iterator[Workshop]:
    """A host, a builder that has the image environments begin with, and a node without any, behind a connection that is
    counted. Neither runs plain processes.
    """
    host = {
        "heartbeat_interval_seconds": 1.0,
        "environment_syncer": syncer,
        "builder": BUILDER,
        "initial_base_image": IMAGE,
        **settings,
    }
    with ExitStack() as stack:
        for daemon in daemons.values():
            empty(daemon)
        daemons[BUILDER].load_image()
        cluster = stack.enter_context(a_cluster(**host))
        sections, medium, registry = _medium(stack, cluster, syncer, daemons)
        cluster.start_host()
        proxy = FaultProxy(("127.0.0.1", cluster.port))
        stack.callback(proxy.close)
        wire = Wire()
        proxy.tap = wire.tap
        for node, url in ((BUILDER, None), (NODE, proxy.url)):
            docker = {"enabled": True, "socket": str(daemons[node].socket), "network": "none"}
            more = {"docker": docker, "process": {"enabled": False}, "plugins": sections[node], "image_disk_floor": 0}
            cluster.add_runner(node, url=url, start=False, **more).server.start(wait=False)
        for node in (BUILDER, NODE):
            cluster.until_online(node)
        yield Workshop(cluster, daemons, syncer, wire, medium, registry)


@contextmanager
def two_daemons() -> Iterator[dict[str, Dockerd]]:
    """One for each node."""
    with a_daemon(live_restore=True) as one, a_daemon(live_restore=True) as other:
        yield {BUILDER: one, NODE: other}


def empty(daemon: Dockerd) -> None:
    """Takes away all containers and images, for the next cluster on this daemon."""
    containers = daemon.docker("ps", "-aq").split()
    if containers:
        daemon.docker("rm", "-f", *containers)
    daemon.docker("image", "prune", "--all", "--force")


def _medium(
    stack: ExitStack, cluster: Cluster, syncer: str, daemons: dict[str, Dockerd]
) -> tuple[dict[str, dict[str, dict[str, Any]]], Path, OciRegistry | None]:
    """Settings of the plugins by node, and where it lies."""
    if syncer == "nfs":
        share, elsewhere = cluster.top / "share", cluster.top / "elsewhere"
        share.mkdir()
        (share / ".kohakuriver").touch()
        elsewhere.mkdir()
        _run("mount", "--bind", str(share), str(elsewhere))
        stack.callback(_run, "umount", "--lazy", str(elsewhere))
        return {BUILDER: {"nfs": {"path": str(share)}}, NODE: {"nfs": {"path": str(elsewhere)}}}, share, None
    if syncer == "registry":
        registry = _registries(stack, cluster.top / "registry", daemons)
        section = {"registry": {"repository": f"{registry.host}/lab"}}
        return {BUILDER: section, NODE: section}, registry.folder.parent / "data", registry
    return {BUILDER: {}, NODE: {}}, cluster.data / "environments", None


def _registries(stack: ExitStack, top: Path, daemons: dict[str, Dockerd]) -> OciRegistry:
    """The same contents under the same address in three networks: this one, and that of each daemon. The node's one."""
    (top / "data").mkdir(parents=True)
    port = free_port()
    places: list[tuple[str, Sequence[str]]] = [("here", []), *((node, one.inside) for node, one in daemons.items())]
    found = {}
    for name, inside in places:
        (top / name).mkdir()
        (top / name / "data").symlink_to(top / "data")
        found[name] = stack.enter_context(a_registry(top / name, inside=list(inside), port=port))
    return found[NODE]


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)
