"""Kills at the right moment, and what must be true of every task after them."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException

from .boxes import Box
from .cluster import Cluster
from .startlog import StartLog, Work
from .waits import PAUSE

PATIENCE = 60.0


def is_at_a_start(cluster: Cluster, starting: Sequence[str] = ("starting",)) -> bool:
    """Waits until one attempt is being started and another runs; False when that did not come to be."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            counts = cluster.api.get("/api/v1/status")["tasks"]
        except (OSError, HTTPException):
            time.sleep(PAUSE)
            continue
        if any(counts.get(status, 0) for status in starting) and counts.get("running", 0):
            return True
    return False


def check_all(
    cluster: Cluster, tasks: Mapping[str, Work | Box], *, log: StartLog | None = None, may_lack_words: bool = False
) -> None:
    """What the start log says against what the host says."""
    starts = (log or cluster.log).starts()
    views = cluster.api.all_tasks()
    wrong: list[str] = []
    for task, work in tasks.items():
        view = views[task]
        ran = [attempt for attempt in starts if attempt.partition(".")[0] == task]
        if ran != [f"{task}.{view['attempt']}"] or starts[ran[0]] != 1:
            wrong.append(f"{work.name}: started {[(attempt, starts[attempt]) for attempt in ran]} {view}")
        if view["exit"] is None or view["exit"].get("code") != work.code:
            wrong.append(f"{work.name}: exit {view['exit']} instead of {work.code}")
        for stream in ("stdout", "stderr"):
            seen = cluster.api.output(task, stream)
            if hashlib.sha256(seen).hexdigest() != getattr(work, stream) and not may_lack_words:
                wrong.append(f"{work.name}: {stream} of {len(seen)} bytes")
    assert not wrong, f"{len(wrong)} of {len(tasks)}:\n" + "\n".join(wrong[:20]) + "\n" + cluster.story()
