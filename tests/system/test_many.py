"""Arrays, dependencies, retries and spans through the real executable."""

import os
import signal
from pathlib import Path

from .cluster import Cluster
from .startlog import processes_of
from .waits import until


def batch_of(cluster: Cluster, *words: str) -> list[str]:
    """The ids of what `task submit` made."""
    done = cluster.cli("task", "submit", "-q", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_array_runs_within_its_limit_and_what_waits_for_it_comes_after(cluster: Cluster, tmp_path: Path) -> None:
    """Each task counts itself in and out of a folder that none of ours reads."""
    code = (
        f"cd {tmp_path} && touch in.$KOHAKURIVER_ARRAY_INDEX && ls in.* | wc -l > seen.$KOHAKURIVER_ARRAY_INDEX"
        " && sleep 0.2 && rm in.$KOHAKURIVER_ARRAY_INDEX"
    )
    ids = batch_of(cluster, "-c", "0", "--name", "sweep", "--array", "1,3,5-11:2%1", "--", "sh", "-c", code)
    (after,) = batch_of(cluster, "-c", "0", "--after", "batch:sweep", "--", "sh", "-c", f"ls {tmp_path}/seen.* | wc -l")
    assert cluster.cli("task", "wait", "--batch", "sweep[3]", within=120).returncode == 0
    cluster.until_status(after, "completed", within=60)
    assert cluster.cli("task", "logs", after).stdout.strip() == "6"
    assert max(int(path.read_text()) for path in tmp_path.glob("seen.*")) == 1
    assert {path.name for path in tmp_path.iterdir()} == {f"seen.{index}" for index in (1, 3, 5, 7, 9, 11)}
    listed = cluster.cli("task", "list", "-q", "--batch", ids[0], "--sort", "id").stdout.split()
    assert listed == ids


def test_a_whole_array_is_killed_over_a_restart_of_the_host(cluster: Cluster) -> None:
    ids = batch_of(cluster, "-c", "0", "--array", "0-9%1", "--name", "long", "--", "sleep", "1000")
    (after,) = batch_of(cluster, "-c", "0", "--after", f"batch:{ids[0]}", "--", "true")
    until(lambda: sum(cluster.api.status(task) == "running" for task in ids) == 1, within=60, what="one runs")
    cluster.host.again()
    cluster.until_online("one")
    assert sum(cluster.api.status(task) == "running" for task in ids) == 1

    def full() -> bool:
        return (cluster.api.task(ids[9])["reason"] or {}).get("text") == "1 of its array run, at most 1"

    until(full, within=60, what="the last waits for its array", tell=lambda: cluster.told(ids[9]))
    done = cluster.cli("task", "kill", "--batch", "long", "--grace", "0s")
    assert done.stdout.startswith(f"batch {ids[0]}: 10 of 10 tasks"), done.stderr
    for task in ids:
        cluster.until_status(task, "killed", within=60)
    assert cluster.until_status(after, "killed", within=30)["exit"]["reason"].startswith("it was to start after task")
    assert not [process for task in ids for process in processes_of(task)]


def test_a_task_is_tried_again_and_each_attempt_stays_to_be_read(cluster: Cluster) -> None:
    code = 'echo "out of $KOHAKURIVER_ATTEMPT"; test "${KOHAKURIVER_ATTEMPT##*.}" = 3'
    words = ["-c", "0", "--retries", "3", "--retry-delay", "1s", "--name", "again", "--", "sh", "-c", code]
    done = cluster.cli("run", *words, within=120)
    (task,) = {line.split()[2].partition(".")[0] for line in done.stdout.splitlines()}
    assert (done.returncode, done.stdout) == (0, "".join(f"out of {task}.{number}\n" for number in (1, 2, 3)))
    for number in (1, 2, 3):
        assert cluster.cli("task", "logs", "--attempt", str(number), "again").stdout == f"out of {task}.{number}\n"
    runs = cluster.api.get(f"/api/v1/tasks/{task}/attempts")["items"]
    assert [(run["attempt"], run["exit"]["code"]) for run in runs] == [(1, 1), (2, 1), (3, 0)]


def test_what_somebody_kills_is_not_tried_again(cluster: Cluster) -> None:
    task = cluster.api.submit("sleep", "1000", cores=0, retries=5, retry_on=["failed", "oom", "timeout"])
    cluster.until_status(task, "running", within=60)
    (process,) = processes_of(task)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: cluster.api.task(task)["attempt"] == 2, within=60, what="it is tried again")
    cluster.until_status(task, "running", within=60)
    cluster.api.change("kill", task, {"grace": 0})
    view = cluster.until_status(task, "killed", within=60)
    assert (view["attempt"], view["retry"]["retried"]) == (2, 1)


def test_spans_are_tasks_of_one_batch(cluster: Cluster) -> None:
    ids = batch_of(cluster, "-c", "0", "--span", "--at-once", "2", "--", "echo", "span:{1..2}", "span:[a, b]")
    assert cluster.cli("task", "wait", *ids, within=120).returncode == 0
    assert [cluster.api.output(task) for task in ids] == [b"1 a\n", b"1 b\n", b"2 a\n", b"2 b\n"]
