"""Tasks in containers, the whole path: limits from inside, nothing of the platform within reach, kills of every part."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from .boxes import Box, folder, start_log
from .cluster import Cluster, a_cluster, end_all
from .kills import check_all, is_at_a_start
from .talk import FINAL
from .waits import until

pytestmark = pytest.mark.docker

SEED = 3
#: enough for ten kills in their midst; the whole of acceptance 2 takes minutes on a busy machine
TASKS = 200 if os.environ.get("KOHAKURIVER_FULL_LENGTH") else 120
KILLS = 5
OURS = "label=kohakuriver.runner"


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    with a_daemon(live_restore=True) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def boxes(dockerd: Dockerd) -> Iterator[Cluster]:
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one", docker=docker_settings(made, dockerd), shared_dir=str(made.top / "shared"))
        yield made


def docker_settings(cluster: Cluster, dockerd: Dockerd) -> dict[str, object]:
    (cluster.top / "shared").mkdir(exist_ok=True)
    return {
        "enabled": True,
        "socket": str(dockerd.socket),
        "network": "none",
        "mounts_allowed": [str(folder(cluster))],
    }


def left(dockerd: Dockerd) -> list[str]:
    return dockerd.docker("ps", "-aq", "--filter", OURS).split()


def test_limits_are_seen_from_inside_and_told_by_the_commands(boxes: Cluster) -> None:
    """Acceptance 1."""
    text = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
        "echo kept >/shared/file; echo gone >/local_temp/file; exit 5"
    )
    words = ["-t", "one", "--image", IMAGE, "-c", "1", "-m", "64M"]
    done = boxes.cli("task", "submit", "--wait", "--name", "limits", *words, "--", "sh", "-c", text)
    assert done.returncode == 5, done.stderr
    logs = boxes.cli("task", "logs", "limits")
    assert logs.stdout == f"{64 * 2**20}\n", logs.stderr
    (file,) = (boxes.top / "shared").glob("*/file")
    assert (file.parent.name, file.read_text()) == ("admin", "kept\n")


def test_a_script_runs_inside(boxes: Cluster, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("#!/bin/sh\necho script $1 in $(ls / | wc -l)\n")
    done = boxes.cli("run", "--image", IMAGE, "--script", str(tmp_path / "job.sh"), "--", "x")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["script", "x"]), done.stderr


def test_without_an_image_it_is_a_plain_process(boxes: Cluster) -> None:
    task = boxes.api.submit("true")
    boxes.until_status(task, "completed")
    assert boxes.api.task(task)["backend"] == "process"


def test_a_missing_program_and_a_missing_image_are_told(boxes: Cluster) -> None:
    task = boxes.api.submit("nonesuch", image=IMAGE)
    view = boxes.until_status(task, *FINAL)
    assert "no such program" in view["exit"]["reason"]
    task = boxes.api.submit("true", image="127.0.0.1:1/nothing:1")
    view = boxes.until_status(task, *FINAL, within=60)
    assert "was not fetched" in view["exit"]["reason"]


def test_containers_go_when_the_host_has_their_end(boxes: Cluster, dockerd: Dockerd) -> None:
    """Kill, pause, time limit and out of memory, and nothing stays."""
    held = boxes.api.submit("sleep", "1000", image=IMAGE)
    boxes.until_status(held, "running")
    boxes.api.change("pause", held)
    boxes.until_status(held, "paused")
    boxes.api.change("resume", held)
    boxes.until_status(held, "running")
    boxes.api.change("kill", held, {"grace": 1})
    late = boxes.api.submit("sleep", "1000", image=IMAGE, time_limit=1, grace=0)
    large = boxes.api.submit("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", image=IMAGE, memory=32 * 2**20)
    for task, status in ((held, "killed"), (late, "timed_out"), (large, "killed_oom")):
        assert boxes.until_status(task, *FINAL, within=60)["status"] == status
    until(lambda: not left(dockerd), within=60, what="no container of ours is left", tell=boxes.story)
    jobs = boxes.runners["one"].data / "jobs"
    until(lambda: not list(jobs.iterdir()), within=60, what="no directory is left", tell=boxes.story)


def test_nothing_of_the_platform_can_be_reached_or_read(boxes: Cluster) -> None:
    """Acceptance 6: no file of host or runner, no socket, no other task's output, no process, no port."""
    other = boxes.api.submit("sh", "-c", "echo secret-of-another; sleep 1000", image=IMAGE, secrets={"KEY": "hunter2"})
    boxes.until_status(other, "running")
    text = f"""
        find / -xdev -name '*.sqlite3' 2>/dev/null; find / -xdev -type s 2>/dev/null
        ls -d {boxes.top} {boxes.data} /var/run/docker.sock /run/containerd 2>/dev/null
        grep -l hunter2 /proc/*/environ 2>/dev/null; ls /proc | grep -c '^[0-9]'
        nc -w 1 127.0.0.1 {boxes.port} </dev/null && echo reached
        ls /shared /local_temp /kohakuriver 2>/dev/null | grep -v file
    """
    task = boxes.api.submit("sh", "-c", text, image=IMAGE)
    boxes.until_status(task, *FINAL)
    lines = boxes.api.output(task).decode().split()
    processes = [line for line in lines if line.isdigit()]
    assert [line for line in lines if not line.isdigit()] == ["/local_temp:", "/shared:"], lines
    assert int(processes[0]) < 10, "the processes of the node are not to be seen"
    boxes.api.change("kill", other, {"grace": 0})


def test_a_mount_from_elsewhere_is_refused_with_the_reason(boxes: Cluster) -> None:
    done = boxes.cli("task", "submit", "--image", IMAGE, "--mount", "/etc:/x", "--wait", "--", "true")
    assert (done.returncode, "not below a directory" in done.stderr) == (125, True), done.stderr


@pytest.fixture
def apart(dockerd: Dockerd) -> Iterator[Cluster]:
    """A cluster of its own beside the other, on the same daemon."""
    with a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        made.add_runner("one", docker=docker_settings(made, dockerd))
        yield made
        end_all(made)


def test_containers_while_host_and_runner_are_killed_five_times_each(apart: Cluster, dockerd: Dockerd) -> None:
    """Acceptance 2, 200 of them at full length. Each kill waits for a moment in which one attempt is being made and another runs."""
    chance = random.Random(SEED)
    works = [
        Box(f"b{number}", chance.choice([0.0, 0.0, 0.0, 0.3]), chance.choice([0, 10, 500, 5000]), number % 126)
        for number in range(TASKS)
    ]
    tasks = _submit(apart, works)
    runner = apart.runners["one"].server
    moments = 0
    for number in range(2 * KILLS):
        moments += is_at_a_start(apart)
        (apart.host if number % 2 else runner).again()
    _until_all_ended(apart, tasks)
    assert moments == 2 * KILLS, f"only {moments} of the kills came while an attempt was being made"
    check_all(apart, tasks, log=start_log(apart))
    until(lambda: not _left_of(apart, dockerd), within=120, what="no container is left", tell=apart.story)


def test_containers_while_docker_is_restarted_twice(apart: Cluster, dockerd: Dockerd) -> None:
    """Acceptance 2, with live-restore: what ends while the daemon is away may lack its last words, and it is told; so is
    a start or an end of which nobody can know what came of it.
    """
    works = [Box(f"d{number}", 0.3 + 0.2 * (number % 5), 100, number) for number in range(24)]
    tasks = _submit(apart, works)
    for end in (dockerd.stop, dockerd.kill):
        assert is_at_a_start(apart)
        end()
        dockerd.start()
    _until_all_ended(apart, tasks)
    unknown = {task for task, view in apart.api.all_tasks().items() if is_unknown(view)}
    assert len(unknown) <= len(tasks) // 4, apart.story()
    log = start_log(apart)
    known = {task: work for task, work in tasks.items() if task not in unknown}
    check_all(apart, known, log=log, may_lack_words=True)
    starts = log.starts()
    assert all(count == 1 for count in starts.values()), f"{starts}\n{apart.story()}"
    until(lambda: not _left_of(apart, dockerd), within=120, what="no container is left", tell=apart.story)


def is_unknown(view: dict[str, Any]) -> bool:
    """Whether Docker died over its start, or over its end before that was on its disk."""
    reason = (view["exit"] or {}).get("reason") or ""
    return any(words in reason for words in ("cannot be known", "a daemon that died over it", "exit code is unknown"))


def _submit(cluster: Cluster, works: list[Box]) -> dict[str, Box]:
    return {cluster.api.post("/api/v1/tasks", work.body(cluster))["tasks"][0]: work for work in works}


def _until_all_ended(cluster: Cluster, tasks: dict[str, Box]) -> None:
    until(
        lambda: {view["status"] for task, view in cluster.api.all_tasks().items() if task in tasks} <= FINAL,
        within=400, what="every task has ended", tell=cluster.story,
    )  # fmt: skip


def _left_of(cluster: Cluster, dockerd: Dockerd) -> list[str]:
    label = f"{OURS}={cluster.api.get('/api/v1/status')['cluster']}/one"
    return dockerd.docker("ps", "-aq", "--filter", label).split()
