"""A lab on a machine with Docker uses it by itself: no setting of its own, an image, and the limits are what the task sees."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from .serving import Server, clean_environment, run
from .startlog import processes_under

pytestmark = pytest.mark.docker

MEMORY = 64 * 2**20
#: cgroup version 1 has a file for each controller in a tree of its own, version 2 all in one directory
LIMITS = """
cd /sys/fs/cgroup
if [ -e memory.max ]; then
    echo memory $(cat memory.max) swap $(cat memory.swap.max) pids $(cat pids.max) cpu $(cat cpu.max)
else
    echo memory $(cat memory/memory.limit_in_bytes) pids $(cat pids/pids.max)
    echo cpu $(cat cpu/cpu.cfs_quota_us) $(cat cpu/cpu.cfs_period_us)
fi
exit 5
"""
SEEN = {
    1: f"memory {MEMORY} pids 4096\ncpu 100000 100000\n",
    2: f"memory {MEMORY} swap 0 pids 4096 cpu 100000 100000\n",
}


@dataclass(frozen=True)
class Lab:
    server: Server
    daemon: Dockerd

    def cli(self, *words: str) -> tuple[int, str, str]:
        done = run(words, self.server.env)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """`serve --role all` as it is, told by DOCKER_HOST where the daemon is, as Docker's own client is."""
    with tempfile.TemporaryDirectory(prefix="kr-") as directory, a_daemon(live_restore=True) as daemon:
        home = Path(directory)
        (home / "config.toml").write_text("[host]\ndisk_floor = '1M'\n")
        env = clean_environment(home, DOCKER_HOST=f"unix://{daemon.socket}")
        words = ["--role", "all", "--port", "0", "--data-dir", str(home / "data")]
        server = Server(words=words, log=home / "log", env=env)
        try:
            server.start()
            yield Lab(server, daemon)
        finally:
            server.kill()
            ours = [process for process in processes_under(home) if "docker" not in process.name()]
            for process in ours:
                process.kill()
            psutil.wait_procs(ours, timeout=60)


def version(daemon: Dockerd) -> int:
    """Of the control groups that the daemon uses."""
    return int(daemon.docker("info", "--format", "{{.CgroupVersion}}"))


def node(lab: Lab) -> str:
    code, said, told = lab.cli("node", "list", "-o", "json")
    assert code == 0, told
    (found,) = json.loads(said)["items"]
    return str(found["name"])


def test_the_limits_are_seen_from_inside_and_in_the_logs(lab: Lab) -> None:
    """Acceptance 1, as it is written."""
    words = ["task", "submit", "--wait", "-t", node(lab), "--image", IMAGE, "-c", "1", "-m", "64M"]
    code, _, told = lab.cli(*words, "--name", "limited", "--", "sh", "-c", LIMITS)
    assert code == 5, f"{told}\n{lab.server.story()}"
    code, said, told = lab.cli("task", "logs", "limited")
    assert (code, said) == (0, SEEN[version(lab.daemon)]), told


def test_docker_is_found_without_a_setting(lab: Lab) -> None:
    code, said, told = lab.cli("node", "status", node(lab), "-o", "json")
    assert code == 0, told
    assert "docker" in json.loads(said)["backends"]


def test_what_exceeds_its_memory_is_said_to(lab: Lab) -> None:
    eats = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]
    code, _, told = lab.cli("run", "--image", IMAGE, "-m", "64M", "--", *eats)
    assert code == 137, told
    code, said, _ = lab.cli("task", "list", "-o", "json", "-l", "1")
    assert json.loads(said)["items"][0]["status"] == "killed_oom"


def test_without_an_image_it_is_a_process_of_the_machine(lab: Lab) -> None:
    code, said, told = lab.cli("run", "--", "readlink", "/proc/self/ns/mnt")
    assert (code, said.strip()) == (0, os.readlink("/proc/self/ns/mnt")), told
