"""A1, A2, A3, A5: container tasks against the raw Engine's API of the same run, on a daemon of their own."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import engine
from engine import TRUE, Raw, Where
from figures import Book, alternate, median, percentile, ratios
from footprint import resident
from serving import Cluster, Place, Process
from talk import Loose

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon, why_not

#: the raw containers' network, of the same kind as the runner's own
BRIDGE = "raw"
WIDE = Path(__file__).with_name("wide.py")
AT_ONCE = (4, 8, 16)
EIGHT = 8
FIGURES = ("A1", "A2", "A3", "A5")
#: nodes on the one daemon, and the cores that they say they have: eight at once, as A2 has it; and more than the
#: runner's own limit of starts
NODES = {"eight": EIGHT, "many": 64}


@dataclass(frozen=True)
class Stage:
    """A daemon, a host, and a node beside them on which so many tasks may be under way."""

    cluster: Cluster
    runners: dict[str, Process]
    dockerd: Dockerd
    where: Where

    def submit(self, copies: int, node: str) -> list[str]:
        return self.cluster.talk.submit(TRUE, copies=copies, image=self.where.image, targets=[node])

    def until_ended(self, tasks: list[str]) -> None:
        for task in (tasks[-1], *tasks[-20:]):
            self.cluster.talk.until_ended(task)
        while self.open(tasks):
            time.sleep(0.01)

    def open(self, tasks: list[str]) -> bool:
        wanted = "pending,assigned,starting,running"
        return bool(self.cluster.talk.get(f"/api/v1/tasks?batch={tasks[0]}&status={wanted}&limit=1")["items"])

    def drain(self, count: int, node: str) -> float:
        """Tasks a second from their submit to the end of the last."""
        engine.settle(self.where)
        began = time.perf_counter()
        self.until_ended(self.submit(count, node))
        return count / (time.perf_counter() - began)

    def raw(self, count: int, at_once: int) -> float:
        engine.settle(self.where)
        return float(engine.rate(self.where, count, at_once)["rate"])

    def all_of(self, tasks: list[str]) -> list[dict[str, Any]]:
        """The tasks of one submit."""
        found: list[dict[str, Any]] = []
        path = f"/api/v1/tasks?batch={tasks[0]}&limit=200"
        page = self.cluster.talk.get(path)
        while True:
            found += page["items"]
            if not page.get("next"):
                return found
            page = self.cluster.talk.get(f"{path}&cursor={page['next']}")


@contextmanager
def stage() -> Iterator[Stage]:
    """All of it, new, and nothing left of it afterwards."""
    with a_daemon() as dockerd, Place() as place:
        dockerd.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", BRIDGE)
        cluster = Cluster(place)
        cluster.start_host()
        plugins = {"plugins.docker": {"socket": str(dockerd.socket)}}
        runners = {
            name: cluster.add_runner(name, plugins, [sys.executable, str(WIDE), str(cores)])
            for name, cores in NODES.items()
        }
        found = Stage(cluster, runners, dockerd, Where(str(dockerd.socket), IMAGE, BRIDGE))
        for name in NODES:
            found.drain(2, name)
        yield found


def containers(book: Book, names: set[str], *, full: bool) -> None:
    """Of A1, A2, A3, A5 those that are named; with none, all that the time allows."""
    wanted = names & set(FIGURES) or {*FIGURES} - ({"A5"} if not full else set())
    reason = why_not()
    if reason is not None:
        for name in FIGURES:
            book.add(name, "container tasks", 0, "", note=f"not measured: {reason}")
        return
    with stage() as found:
        if "A1" in wanted:
            asyncio.run(_single(book, found, 100 if full else 15))
        if "A2" in wanted:
            _eight(book, found, 40 if full else 8)
        if "A3" in wanted:
            _at_once(book, found, 200 if full else 24, 40 if full else 12)
        if "A5" in wanted:
            _queued(book, found, 1000)


async def _single(book: Book, found: Stage, count: int) -> None:
    """A1: one task alone, one container alone, in turn."""
    ours, bare = [], []
    body = {"command": TRUE, "cores": 1, "image": found.where.image, "targets": ["eight"]}
    async with Loose(found.cluster.talk) as kept, Raw(found.where) as raw:
        for _ in range(count):
            await raw.none_left()
            began = time.perf_counter()
            status, data = await kept.ask("POST", "/api/v1/tasks", body)
            assert status == 201, data[:500]
            task = json.loads(data)["tasks"][0]
            _, data = await kept.ask("GET", f"/api/v1/tasks/{task}/wait?timeout=60")
            assert json.loads(data)["status"] == "completed", data[:500]
            ours.append((time.perf_counter() - began) * 1e3)
            await raw.none_left()
            bare.append(await raw.life() * 1e3)
    book.add("A1", "one container task, submit to finished, p50", median(ours), "ms",
             note=f"{count} in turn with the raw Engine's API: create, start, wait, logs, remove")  # fmt: skip
    book.add("A1", "p50 / raw p50", median(ours) / median(bare), "x", goal=1.05,
             spread=[a / b for a, b in zip(ours, bare, strict=True)], note=f"raw {median(bare):.0f} ms")  # fmt: skip
    late, least = percentile(ours, 0.99), percentile(bare, 0.99)
    book.add("A1", "p99 - raw p99", late - least, "ms", goal=30.0, note=f"{late:.0f} against {least:.0f} ms")


def _eight(book: Book, found: Stage, count: int) -> None:
    """A2: eight at once, both sides."""
    pairs = alternate(lambda: found.drain(count, "eight"), lambda: found.raw(count, EIGHT))
    bare = median([b for _, b in pairs])
    book.add("A2", "container tasks, 8 at once", median([a for a, _ in pairs]), "a second",
             spread=[a for a, _ in pairs], note=f"{count} tasks a run")  # fmt: skip
    book.add("A2", "/ raw Engine's API, 8 at once", median(ratios(pairs)), "x", goal=0.92, most=False,
             spread=ratios(pairs), note=f"raw {bare:.2f} a second")  # fmt: skip


def _at_once(book: Book, found: Stage, count: int, few: int) -> None:
    """A3: what a person who submits 200 at once gets, against the best that the daemon gives to anybody. Each raw
    measurement has one of ours beside it, for the machine is not as fast all the time.
    """
    ours, bare = [], {}
    for number in AT_ONCE:
        bare[number] = found.raw(few, number)
        ours.append(found.drain(count, "many"))
    best = max(bare, key=lambda number: bare[number])
    book.add("A3", f"{count} container tasks submitted at once", median(ours), "a second", spread=ours,
             note=f"a node that says it has {NODES['many']} cores; default settings")  # fmt: skip
    told = ", ".join(f"{number} at once {rate:.2f}" for number, rate in bare.items())
    book.add("A3", f"/ best raw rate, of {best} at once", median(ours) / bare[best], "x", goal=0.9, most=False,
             note=f"raw a second: {told}")  # fmt: skip


def _queued(book: Book, found: Stage, count: int) -> None:
    """A5: a long queue, with the daemon's own count of what it started."""
    parts = {"host": found.cluster.host, "runner": found.runners["many"]}
    before = {name: resident(part) for name, part in parts.items()}
    raw = [found.raw(24, EIGHT)]
    with _starts(found.dockerd) as starts:
        tasks = found.submit(count, "many")
        found.until_ended(tasks)
        engine.settle(found.where)
        told = found.all_of(tasks)
    raw.append(found.raw(24, EIGHT))
    quarter = count // 4
    ends = sorted(datetime.fromisoformat(str(task["finished"])).timestamp() for task in told)
    first, last = quarter / (ends[quarter] - ends[0]), quarter / (ends[-1] - ends[-1 - quarter])
    bad = sum(task["status"] != "completed" or task["attempt"] != 1 for task in told) + abs(count - len(told))
    twice = sum(number != 1 for number in starts.values()) + abs(count - len(starts))
    book.add("A5", f"{count} queued: failed, lost or tried again", bad, "", goal=0)
    book.add("A5", "the same: not started exactly once, as the daemon says", twice, "", goal=0)
    book.add("A5", "the same: rate of the last quarter / the first", last / first, "x", goal=0.95, most=False,
             note=f"{first:.2f} and {last:.2f} a second, of all {count / (ends[-1] - ends[0]):.2f}; "
                  f"raw, 8 at once, {raw[0]:.2f} before and {raw[1]:.2f} after")  # fmt: skip
    book.add("C2", "runner with Docker, after them, resident", resident(parts["runner"]), "MiB", goal=60.0,
             note=f"{before['runner']:.0f} before")  # fmt: skip
    for name, part in parts.items():
        book.add("C3", f"{name}: growth per 1,000 container tasks", (resident(part) - before[name]) * 1000 / count,
                 "MiB", note=f"over these {count:,}; the goal of 0.7 is for 20,000")  # fmt: skip


@contextmanager
def _starts(dockerd: Dockerd) -> Iterator[Counter[str]]:
    """How often each instance of ours was started by the daemon while the block ran; known after the block."""
    found: Counter[str] = Counter()
    words = ["docker", "-H", f"unix://{dockerd.socket}", "events", "--filter", "event=start", "--format", "{{json .}}"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(words, stdout=log) as listening:
        time.sleep(1)
        yield found
        time.sleep(1)
        listening.terminate()
        listening.wait()
        log.seek(0)
        for line in log:
            found[json.loads(line)["Actor"]["Attributes"].get("kohakuriver.instance", "none of ours")] += 1
