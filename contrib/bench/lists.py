"""E1 and E2: lists of tasks, with a hundred thousand against ten thousand, and under eight clients."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from baselines import bare_server
from figures import Book, median, percentile
from filled import Filled
from serving import Cluster, Place
from talk import Kept, Loose, Talk, request

SORTS = ("id", "submitted", "started", "finished", "priority", "name")
CLIENTS = 8


def flat(book: Book, few: Filled, many: Filled, *, full: bool) -> None:
    """E1: every sort, both ways, first and deep page, and the filters; 50 rows a page."""
    filters = (
        ["", "status=failed", "status=completed,failed", "owner=me", "node=node1"] if full else ["", "status=failed"]
    )
    times = 40 if full else 12
    found: list[tuple[float, str]] = []
    with Place() as place, Place() as other:
        clusters = few.cluster(place), many.cluster(other)
        with clusters[0].talk.connect() as small, clusters[1].talk.connect() as large:
            for sort in (f"{sign}{sort}" for sort in SORTS for sign in ("", "-")):
                for narrow in filters:
                    found += _compare(small, large, sort, narrow, times)
    found.sort(reverse=True)
    values = [ratio for ratio, _ in found]
    worst = "; ".join(f"{what}: {ratio:.2f}" for ratio, what in found[:3])
    book.add("E1", f"lists, {many.count // 1000}k / {few.count // 1000}k tasks: the worst of {len(found)}",
             values[0], "x", goal=1.3, spread=values, note=worst)  # fmt: skip
    book.add("E1", "the same: how many are over 1.3", sum(value > 1.3 for value in values), "", goal=0)


def _compare(small: Kept, large: Kept, sort: str, narrow: str, times: int) -> list[tuple[float, str]]:
    base = "&".join(part for part in (f"/api/v1/tasks?limit=50&sort={sort}", narrow) if part)
    answers = []
    for where in ("first", "deep"):
        paths = [base, base] if where == "first" else [base + _deep(kept, base) for kept in (small, large)]
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(times):
            for kept, path, list_ in ((small, paths[0], took[0]), (large, paths[1], took[1])):
                began = time.perf_counter()
                status, data = kept.ask("GET", path)
                list_.append(time.perf_counter() - began)
                assert status == 200, data[:500]
        answers.append((median(took[1]) / median(took[0]), f"sort={sort} {narrow} {where}".replace("  ", " ")))
    return answers


def _deep(kept: Kept, base: str) -> str:
    """The cursor of a page in the middle of what there is, or a few thousand rows down."""
    cursor = ""
    for _ in range(5):
        status, data = kept.ask("GET", base.replace("limit=50", "limit=1000") + cursor)
        assert status == 200, data[:500]
        following = json.loads(data)["next"]
        if following is None:
            break
        cursor = f"&cursor={following}"
    return cursor


def served(book: Book, many: Filled, *, full: bool) -> None:
    """E2: the list of tasks as eight clients ask for it at once."""
    seconds = 10.0 if full else 4.0
    with Place() as place:
        cluster = many.cluster(place)
        path = "/api/v1/tasks?limit=50"
        size = len(cluster.talk.connect().ask("GET", path)[1])
        rounds = [_load(cluster, path, seconds / 2) for _ in range(2)]
        with bare_server(size) as bare:
            floor, _ = _own(Talk(bare), "/", seconds / 2)
        rate, slow = median([one[0] for one in rounds]), max(one[1] for one in rounds)
    by = "wrk" if shutil.which("wrk") else "an own client with kept connections, which shares the two cores"
    note = f"by {by}; a bare aiohttp answer of {size / 1024:.0f} KiB {floor:.0f} a second"
    book.add("E2", "task list API, 50 rows, 100k tasks, 8 clients", rate, "a second", goal=500, most=False, note=note)
    book.add("E2", "the same: p99", slow, "ms", goal=25.0)
    book.add("E2", "the same / bare aiohttp", rate / floor, "x")


def _load(cluster: Cluster, path: str, seconds: float) -> tuple[float, float]:
    """Requests a second and p99 in milliseconds."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return _own(cluster.talk, path, seconds)
    words = [
        wrk,
        "-t1",
        f"-c{CLIENTS}",
        f"-d{seconds:.0f}s",
        "--latency",
        "-H",
        f"Authorization: Bearer {cluster.talk.token}",
    ]
    text = subprocess.run([*words, cluster.talk.url + path], capture_output=True, text=True, check=True).stdout
    told = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) > 1}
    slow = told["99%"]
    unit = {"us": 1e-3, "ms": 1.0}.get(slow[-2:], 1000.0)
    return float(told["Requests/sec:"]), float(slow.rstrip("mus")) * unit


def _own(talk: Talk, path: str, seconds: float) -> tuple[float, float]:
    words = [sys.executable, __file__, talk.url, talk.token, path, str(seconds)]
    done = subprocess.run(words, capture_output=True, check=True, cwd=Path(__file__).parent)
    took = json.loads(done.stdout)
    return len(took) / seconds, percentile(took, 0.99) * 1e3


async def _clients(talk: Talk, path: str, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        async with Loose(talk) as kept:
            host, port = kept.place
            data = request("GET", path, token=talk.token, host=f"{host}:{port}")
            while (began := time.perf_counter()) < until:
                status, answer = await kept.send(data)
                assert status == 200, answer[:500]
                took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_clients(Talk(sys.argv[1], sys.argv[2]), sys.argv[3], float(sys.argv[4])))))
