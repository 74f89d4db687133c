"""B4, B5, B6, H2: tasks from submit to their end, against starting the same processes with nothing around them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from baselines import hyperqueue
from figures import PAIRS, Book, alternate, median, percentile, ratios
from serving import Cluster, Place
from talk import Loose, Talk, lines

TRUE = ["true"]
SLOTS = os.cpu_count() or 1
MEMORY = Path("/dev/shm")


def throughput(book: Book, *, full: bool) -> None:
    """B4: `true` on all cores of this node, as slots of one core each."""
    count = 1000 if full else 150
    hq = hyperqueue(3000 if full else 800, SLOTS)
    with Place() as place:
        _rates(book, place, count, "disk", hq)
    if full and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30:
        with Place(MEMORY) as place:
            _rates(book, place, count, "memory", hq)


def _rates(book: Book, place: Place, count: int, where: str, hq: dict[str, float] | str) -> None:
    cluster = Cluster(place)
    cluster.start_host()
    cluster.add_runner()
    drain(cluster.talk, 50)
    pairs = alternate(lambda: drain(cluster.talk, count), lambda: spawn(count, SLOTS))
    ours, bare, found = [a for a, _ in pairs], [b for _, b in pairs], ratios(pairs)
    on = f"{SLOTS} slots, data in {where}"
    book.add("B4", f"`true` tasks, {on}", median(ours), "a second", spread=ours, note=f"{count} tasks a run")
    book.add("B4", f"/ asyncio spawn with output files, {on}", median(found), "x", goal=0.75, most=False,
             spread=found, note=f"bare {median(bare):.0f} a second")  # fmt: skip
    if isinstance(hq, str):
        book.add("B4", f"/ HyperQueue, {on}", 0, "x", note=f"not measured: {hq}")
    else:
        book.add("B4", f"/ HyperQueue, {on}", median(ours) / hq["rate"], "x", goal=1.2, most=False,
                 note=f"HyperQueue {hq['rate']:.0f} a second, without output files and without a disk")  # fmt: skip


def one_task(book: Book, *, full: bool) -> None:
    """B5 and B6 on an idle host and runner."""
    with Place() as place:
        cluster = Cluster(place)
        cluster.start_host()
        cluster.add_runner()
        drain(cluster.talk, 20)
        asyncio.run(_single(book, cluster.talk, 200 if full else 40))
        asyncio.run(_seen(book, cluster.talk, place.top, 200 if full else 40))


async def _single(book: Book, talk: Talk, count: int) -> None:
    took, floor = [], []
    async with Loose(talk) as kept:
        for _ in range(count):
            began = time.perf_counter()
            task = await _submit(kept, {"command": TRUE})
            status, _ = await kept.ask("GET", f"/api/v1/tasks/{task}/wait?timeout=60")
            took.append((time.perf_counter() - began) * 1e3)
            assert status == 200, status
            began = time.perf_counter()
            child = await asyncio.create_subprocess_exec(*TRUE)
            await child.wait()
            floor.append((time.perf_counter() - began) * 1e3)
    book.add("B5", "one task, submit to finished, p50", median(took), "ms", goal=6.0,
             note=f"asyncio spawn of the same alone {median(floor):.2f} ms")  # fmt: skip
    book.add("B5", "one task, submit to finished, p99", percentile(took, 0.99), "ms", goal=20.0,
             note=f"spawn alone {percentile(floor, 0.99):.2f} ms")  # fmt: skip
    found = [a / b for a, b in zip(took, floor, strict=True)]
    book.add("B5", "one task / asyncio spawn", median(found), "x", spread=found)


async def _seen(book: Book, talk: Talk, top: Path, count: int) -> None:
    """From the moment that lets a process end to the moment in which somebody far away knows."""
    gate = top / "gate"
    os.mkfifo(gate, 0o666)
    waiting, events = [], []
    async with Loose(talk) as kept, Loose(talk) as waiter, Loose(talk) as listener:
        stream = lines(await listener.follow("/api/v1/events?follow=1"))
        for _ in range(count):
            task = await _submit(kept, {"command": ["sh", "-c", f"read x < {gate}"]})
            descriptor = await asyncio.to_thread(os.open, gate, os.O_WRONLY)  # returns when the task reads
            await asyncio.sleep(0.02)
            answer = asyncio.ensure_future(waiter.ask("GET", f"/api/v1/tasks/{task}/wait?timeout=60"))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            os.write(descriptor, b"go\n")
            os.close(descriptor)
            told = asyncio.ensure_future(_until(stream, task, "completed"))
            answer.add_done_callback(lambda _, began=began: waiting.append((time.perf_counter() - began) * 1e3))
            events.append(((await told) - began) * 1e3)
            await answer
    book.add("B6", "process ends -> a --wait client knows, p99", percentile(waiting, 0.99), "ms", goal=50.0,
             note=f"p50 {median(waiting):.1f} ms, the end of the process included")  # fmt: skip
    book.add("B6", "process ends -> event stream says so, p99", percentile(events, 0.99), "ms", goal=50.0,
             note=f"p50 {median(events):.1f} ms")  # fmt: skip


def first_task(book: Book, *, full: bool) -> None:
    """H2: from starting host and runner, both new, to the end of the first task."""
    took = []
    for _ in range(9 if full else PAIRS):
        with Place() as place:
            process, talk = place.lab()
            talk.until_ended(talk.submit(TRUE)[0])
            took.append(time.monotonic() - process.began)
    book.add("H2", "start of the lab, new -> first task finished", median(took), "s", goal=2.5, spread=took,
             note="host and runner in one process, empty directory, process backend")  # fmt: skip


async def _submit(kept: Loose, body: dict[str, object]) -> str:
    status, data = await kept.ask("POST", "/api/v1/tasks", {"cores": 1, **body})
    assert status == 201, data[:500]
    return str(json.loads(data)["tasks"][0])


async def _until(stream: AsyncIterator[dict[str, Any]], task: str, status: str) -> float:
    async for change in stream:
        if change.get("ref") == task and change.get("status") == status:
            return time.perf_counter()
    raise ConnectionError("the event stream ended")


def drain(talk: Talk, count: int) -> float:
    """Tasks a second from one submit of `count` tasks to the end of the last."""
    began = time.monotonic()
    tasks = talk.submit(TRUE, copies=count)
    for task in (tasks[-1], *tasks[-8:]):
        talk.until_ended(task)
    while talk.get(f"/api/v1/tasks?batch={tasks[0]}&status=pending,assigned,starting,running&limit=1")["items"]:
        time.sleep(0.002)
    return count / (time.monotonic() - began)


def spawn(count: int, slots: int) -> float:
    """Processes a second, each with its two output files, in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(count), str(slots)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


async def _bare(count: int, slots: int) -> float:
    with tempfile.TemporaryDirectory(prefix="krb-") as top:
        left = iter(range(count))

        async def slot() -> None:
            for number in left:
                with (Path(top) / f"{number}.out").open("wb") as out, (Path(top) / f"{number}.err").open("wb") as err:
                    child = await asyncio.create_subprocess_exec(
                        *TRUE, stdin=subprocess.DEVNULL, stdout=out, stderr=err
                    )
                    await child.wait()

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(slots):
                group.create_task(slot())
        return count / (time.monotonic() - began)


if __name__ == "__main__":
    print(asyncio.run(_bare(int(sys.argv[1]), int(sys.argv[2]))))
