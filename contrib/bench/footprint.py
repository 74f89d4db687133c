"""B8 and C1 to C5: memory and processor time of host and runner, at rest and after work, and how fast they are back."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from baselines import imported
from figures import PAIRS, Book, median
from filled import Filled
from running import drain
from serving import Cluster, Place, Process, processes_under

SIMULATOR = Path(__file__).with_name("simulator.py")
MIB = 1024 * 1024


def memory(book: Book, *, full: bool) -> None:
    """C1 to C3."""
    with Place() as place:
        cluster = Cluster(place)
        cluster.start_host()
        runner = cluster.add_runner()
        time.sleep(2)
        aiohttp = imported("aiohttp.web")
        for name, what, process, goal in (("C1", "host", cluster.host, 90.0), ("C2", "runner", runner, 60.0)):
            book.add(name, f"{what}, idle, resident", resident(process), "MiB", goal=goal,
                     note=f"an interpreter with aiohttp.web alone {aiohttp:.0f} MiB")  # fmt: skip
        _growth(book, cluster, runner, place, full=full)


def _growth(book: Book, cluster: Cluster, runner: Process, place: Place, *, full: bool) -> None:
    half = 10_000 if full else 250
    found = [(resident(cluster.host), resident(runner))]
    for _ in range(2):
        for _ in range(half // 250):
            drain(cluster.talk, 250)
        time.sleep(1)
        found.append((resident(cluster.host), resident(runner)))
    for at, what in enumerate(("host", "runner")):
        first, middle, last = (pair[at] for pair in found)
        note = f"over {2 * half:,} tasks from the first on, warm-up included"
        book.add("C3", f"{what}: growth per 1,000 finished tasks", (last - first) / (2 * half / 1000), "MiB", goal=0.7,
                 note=note)  # fmt: skip
        book.add("C3", f"{what}: growth in the second half", last - middle, "MiB", goal=2.0,
                 note=f"{half:,} tasks{'' if full else '; the goal is for 10,000: see --full'}")  # fmt: skip
    for process in processes_under(place.top):
        if "shepherd" in " ".join(process.cmdline()):
            book.add("C2", "the runner's shepherd, resident", process.memory_info().rss / MIB, "MiB")


def at_rest(book: Book, *, full: bool) -> None:
    """C4: ten runners with nothing to do."""
    seconds = 30 if full else 8
    with Place() as place:
        cluster = Cluster(place)
        cluster.start_host()
        for number in range(10):
            cluster.add_runner(f"node{number}")
        time.sleep(3)
        before = [busy(process.pid) for process in (cluster.host, *cluster.runners)]
        time.sleep(seconds)
        after = [busy(process.pid) for process in (cluster.host, *cluster.runners)]
    used = [100 * (b - a) / seconds for a, b in zip(before, after, strict=True)]
    book.add("C4", "host with 10 idle runners, of a core", used[0], "%", goal=0.5, note=f"over {seconds} s")
    book.add("C4", "an idle runner, of a core", median(used[1:]), "%", goal=0.7, spread=used[1:],
             note="heartbeat and metrics every 5 s")  # fmt: skip


def heartbeats(book: Book, *, full: bool) -> None:
    """B8: 200 simulated runners, a heartbeat a second each."""
    seconds = 30 if full else 10
    with Place() as place:
        cluster = Cluster(place, heartbeat_interval_seconds=1)
        cluster.start_host()
        names = [f"sim{number}" for number in range(200)]
        credentials = place.top / "credentials"
        credentials.write_text("\n".join(cluster.credential(name)["credential"] for name in names))
        words = [sys.executable, str(SIMULATOR), str(credentials), cluster.talk.url, str(seconds + 3)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as simulator:
            assert simulator.stdout is not None
            simulator.stdout.readline()
            time.sleep(2)
            before, began = busy(cluster.host.pid), time.monotonic()
            time.sleep(seconds - 2)
            used, took = busy(cluster.host.pid) - before, time.monotonic() - began
            heard = [len(cluster.talk.get(f"/api/v1/nodes/{name}/health")["items"]) for name in names[::20]]
            online = [cluster.talk.get(f"/api/v1/nodes/{name}")["status"] for name in names]
            told = json.loads(simulator.stdout.readline())
        missed = sum(status != "online" for status in online) + told["lost"]
        book.add("B8", "host with 200 heartbeats a second, of a core", 100 * used / took, "%", goal=10.0,
                 note=f"over {took:.0f} s; ten nodes looked at have {min(heard)} to {max(heard)} samples")  # fmt: skip
        book.add("B8", "the same: links lost or nodes not online", missed, "", goal=0)


def starting(book: Book, filled: Filled, *, full: bool) -> None:
    """C5: with 100,000 tasks in the store, from the start of the process to its first answer; and after kill -9."""
    with Place() as place:
        cluster = filled.cluster(place)
        cluster.add_runner("busy")
        runner = cluster.runners[0]
        task = cluster.talk.submit(["sleep", "120"])[0]
        _until(cluster, task, "running")
        took, adopted = [], []
        for _ in range(9 if full else PAIRS):
            cluster.host.kill()
            runner.kill()
            cluster.start_host()
            cluster.talk.get("/readyz")
            took.append(time.monotonic() - cluster.host.began)
            runner.start()
            cluster.until_online("busy")
            _until(cluster, task, "running")
            adopted.append(time.monotonic() - cluster.host.began)
        told = cluster.talk.get(f"/api/v1/tasks/{task}")
        cluster.talk.post(f"/api/v1/tasks/{task}/kill", {"grace": 0})
        ended = cluster.talk.until_ended(task)["status"]
    book.add("C5", "host: process start -> serving, 100k tasks", median(took), "s", goal=1.2, spread=took)
    book.add("C5", "host and runner kill -9 -> running task adopted", median(adopted), "s", goal=3.0, spread=adopted,
             note="from the start of the host; the runner is started when the host serves")  # fmt: skip
    lost = int(told["attempt"] != 1) + int(ended != "killed")
    book.add("C5", "the same: tasks lost or started twice", lost, "", goal=0)


def resident(process: Process) -> float:
    """MiB."""
    return psutil.Process(process.pid).memory_info().rss / MIB


def busy(pid: int) -> float:
    """Seconds of processor time so far, from the scheduler's own count in nanoseconds where the kernel has it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _until(cluster: Cluster, task: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while cluster.talk.get(f"/api/v1/tasks/{task}")["status"] != status:
        if time.monotonic() > deadline:
            raise SystemExit(f"task {task} is not {status}")
        time.sleep(0.005)
