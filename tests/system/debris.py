"""Everything that a node's containers can leave behind, counted by the machine and not by the product."""

import os
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from kohakuriver.testing.dockerd import Dockerd

from .cluster import Cluster
from .startlog import processes_under

#: a runner has one for its plain processes, with or without any
SHEPHERD = "kohakuriver_process.shepherd"
#: of a runner's data: the journal and what SQLite keeps beside it
JOURNAL = (".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".db", ".db-wal", ".db-shm")


@dataclass(frozen=True)
class Left:
    """What there is, by kind."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    links: frozenset[str]
    mounts: frozenset[str]
    groups: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]
    connections: int

    def more_than(self, before: "Left") -> dict[str, object]:
        """What was not there before, by kind; empty when nothing came."""
        found: dict[str, object] = {}
        for part in fields(self):
            now, then = getattr(self, part.name), getattr(before, part.name)
            more = max(0, now - then) if part.name == "connections" else sorted(now - then)
            if more:
                found[part.name] = more
        return found


def count(cluster: Cluster, daemon: Dockerd, node: str = "one") -> Left:
    """Of the whole daemon and of one node; the servers themselves are no debris."""
    runner = cluster.runners[node]
    return Left(
        containers=frozenset(daemon.docker("ps", "-aq", "--no-trunc").split()),
        networks=frozenset(daemon.docker("network", "ls", "-q", "--no-trunc").split()),
        volumes=frozenset(daemon.docker("volume", "ls", "-q").split()),
        links=links(daemon),
        mounts=_mounts(daemon.directory, cluster.top),
        groups=_groups(daemon.directory.name),
        processes=_processes(cluster, daemon),
        files=_files(runner.data) | _files(daemon.directory / "data" / "containers", depth=1),
        connections=_sockets(runner.server.pid),
    )


def links(daemon: Dockerd) -> frozenset[str]:
    """Network devices of the namespace that the daemon lives in."""
    pid = (daemon.directory / "pid").read_text().strip()
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "cat", "/proc/net/dev"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return frozenset(line.partition(":")[0].strip() for line in done.stdout.splitlines()[2:])


def _mounts(*places: Path) -> frozenset[str]:
    found = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return frozenset(point for point in found if any(point.startswith(f"{place}/") for place in places))


def _groups(name: str) -> frozenset[str]:
    tops = [path for path in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()] if (path / name).is_dir()]
    return frozenset(folder for top in tops for folder, _, _ in os.walk(top / name))


def _processes(cluster: Cluster, daemon: Dockerd) -> frozenset[str]:
    """Shims and what runs in containers, by the daemon's groups; and what has to do with the cluster."""
    servers = {server.pid for server in cluster.servers()}
    found = {process.pid for process in processes_under(cluster.top)} - servers
    for process in Path("/proc").glob("[0-9]*"):
        try:
            shim = b"shim" in (process / "comm").read_bytes() and str(daemon.directory) in _words(process)
            if shim or f"/{daemon.directory.name}/" in (process / "cgroup").read_text():
                found.add(int(process.name))
        except OSError:
            continue
    told = {f"{pid} {_words(Path(f'/proc/{pid}'))}" for pid in found if Path(f"/proc/{pid}").exists()}
    return frozenset(line for line in told if SHEPHERD not in line)


def _words(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _files(place: Path, depth: int = 99) -> frozenset[str]:
    found = []
    for folder, folders, names in os.walk(place):
        level = len(Path(folder).relative_to(place).parts)
        found += [str(Path(folder) / name) for name in [*folders, *names] if not name.endswith(JOURNAL)]
        if level + 1 >= depth:
            folders.clear()
    return frozenset(found)


def _sockets(pid: int) -> int:
    """Sockets that the process holds."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(path).startswith("socket:")
        except OSError:
            continue
    return count
