"""B1 to B3: what a submit costs, authenticated and durable, beside a bare commit and a bare request."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from baselines import Commits, bare_server
from figures import PAIRS, Book, median, percentile, ratios
from filled import Filled
from serving import Cluster, Place
from talk import Kept, Loose, Talk, request

TASK = {"command": ["true"], "cores": 1}


def idle(book: Book, *, full: bool) -> None:
    """B1 and B3, on a host whose one node is drained, so that nothing runs."""
    block = 100 if full else 40
    with Place() as place, bare_server() as bare:
        cluster = Cluster(place)
        cluster.start_host()
        cluster.add_runner()
        cluster.talk.post("/api/v1/nodes/node1/drain", {})
        commits = Commits(place.top)
        with cluster.talk.connect() as ours, Kept(bare) as theirs:
            _submits(ours, 50)
            submits: list[float] = []
            floors: list[float] = []
            pairs: list[tuple[float, float]] = []
            for _ in range(2 * PAIRS):
                mine = _submits(ours, block)
                floor = [commits.once() + took for took in _posts(theirs, block)]
                submits += mine
                floors += floor
                pairs.append((median(mine), median(floor)))
            B1(book, submits, floors, pairs)
            many(book, ours, commits, 10 if full else 5)
        commits.close()


def B1(book: Book, submits: list[float], floors: list[float], pairs: list[tuple[float, float]]) -> None:  # noqa: N802
    note = f"{len(submits)} submits on one connection; bare request + bare commit p50 {median(floors) * 1e3:.2f} ms"
    book.add("B1", "submit, durable, p50", median(submits) * 1e3, "ms", goal=3.0, note=note)
    book.add("B1", "submit, durable, p99", percentile(submits, 0.99) * 1e3, "ms", goal=10.0,
             note=f"bare p99 {percentile(floors, 0.99) * 1e3:.2f} ms")  # fmt: skip
    found = ratios(pairs)
    book.add("B1", "submit / (bare POST + raw SQLite FULL commit)", median(found), "x", spread=found)


def many(book: Book, ours: Kept, commits: Commits, times: int) -> None:
    """B3: a thousand tasks in one request."""
    took, floor = [], []
    for _ in range(times):
        began = time.perf_counter()
        status, _ = ours.ask("POST", "/api/v1/tasks", {**TASK, "copies": 1000})
        took.append(time.perf_counter() - began)
        assert status == 201, status
        floor.append(commits.once(1000))
    book.add("B3", "1,000 tasks in one request", median(took) * 1e3, "ms", goal=60.0, spread=[t * 1e3 for t in took],
             note=f"a bare commit of 1,000 rows {median(floor) * 1e3:.1f} ms")  # fmt: skip


def loaded(book: Book, filled: Filled, *, full: bool) -> None:
    """B2: eight submitters while a runner's slots are always full and 100,000 tasks are in the store."""
    seconds = 10 if full else 4
    with Place() as place:
        cluster = filled.cluster(place)
        cluster.add_runner("busy")
        cluster.talk.submit(["sleep", "0.5"], copies=2000)
        answers = _eight(cluster.talk, seconds)
        took = [float(value) for value in answers]
        book.add("B2", "8 submitters, busy runner, 100k tasks: p99", percentile(took, 0.99) * 1e3, "ms", goal=25.0,
                 note=f"p50 {median(took) * 1e3:.1f} ms; the runner's slots are full of `sleep 0.5`")  # fmt: skip
        book.add("B2", "the same: submits", len(took) / seconds, "a second", goal=1200, most=False,
                 note="the clients share the two cores")  # fmt: skip


def _submits(ours: Kept, count: int) -> list[float]:
    data = request("POST", "/api/v1/tasks", TASK, token=ours.token, host=f"{ours.host}:{ours.port}")
    return [_timed(ours, data, 201) for _ in range(count)]


def _posts(theirs: Kept, count: int) -> list[float]:
    data = request("POST", "/", TASK, host=f"{theirs.host}:{theirs.port}")
    return [_timed(theirs, data, 200) for _ in range(count)]


def _timed(kept: Kept, data: bytes, expected: int) -> float:
    began = time.perf_counter()
    status, answer = kept.send(data)
    took = time.perf_counter() - began
    assert status == expected, answer[:500]
    return took


def _eight(talk: Talk, seconds: float) -> list[float]:
    """What each submit took, from a process of its own."""
    words = [sys.executable, __file__, talk.url, talk.token, str(seconds)]
    return list(json.loads(subprocess.run(words, capture_output=True, check=True, cwd=Path(__file__).parent).stdout))


async def _clients(talk: Talk, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        async with Loose(talk) as kept:
            host, port = kept.place
            data = request("POST", "/api/v1/tasks", TASK, token=talk.token, host=f"{host}:{port}")
            while (began := time.perf_counter()) < until:
                status, answer = await kept.send(data)
                assert status == 201, answer[:500]
                took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client())
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_clients(Talk(sys.argv[1], sys.argv[2]), float(sys.argv[3])))))
