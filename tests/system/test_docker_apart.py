"""From inside a container nothing of the platform can be reached or read; who may ask for more is a matter of roles."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from . import spying
from .boxes import folder
from .cluster import PASSWORD, Cluster, a_cluster
from .serving import run
from .talk import FINAL, Talk
from .waits import until

pytestmark = [pytest.mark.docker, pytest.mark.netns]

NET = "10.78.0"
MARK = f"marked-{secrets.token_hex(12)}"
#: everything that a container has without a device of its own (OCI runtime specification, default devices)
DEVICES = {"/dev/full", "/dev/null", "/dev/pts/ptmx", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}
#: besides /proc, /sys and what lies below them
MOUNTS = {
    "/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf",
    "/local_temp", "/sbin/docker-init", "/shared",
}  # fmt: skip
RIGHTS = {
    "CapInh:0000000000000000", "CapPrm:00000000000000fb", "CapEff:00000000000000fb", "CapBnd:00000000000000fb",
    "CapAmb:0000000000000000", "NoNewPrivs:1", "Seccomp:2",
}  # fmt: skip
ENVIRONMENT = {
    "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HOME", "HOSTNAME", "KOHAKURIVER_ATTEMPT", "KOHAKURIVER_CPUS",
    "KOHAKURIVER_LOCAL_TEMP_DIR", "KOHAKURIVER_NODE", "KOHAKURIVER_SHARED_DIR", "KOHAKURIVER_TASK_ID",
    "NVIDIA_VISIBLE_DEVICES", "PATH", "PWD", "SHLVL",
}  # fmt: skip
#: where Docker answers for names, inside each network of its own
NAMES = "127.0.0.11"
LEAVES_MARKS = "echo {mark}; echo {mark} >/local_temp/file; echo {mark} >/shared/file; exec sleep 1000"


@dataclass(frozen=True)
class House:
    """A machine that is host, node and Docker at once, and two people on it."""

    cluster: Cluster
    daemon: Dockerd
    ada: Talk
    bob: Talk
    #: ada's, which runs all the time
    victim: str

    @property
    def data(self) -> Path:
        return self.cluster.runners["one"].data

    def pid(self, task: str) -> int:
        """The first process of a task's container, as the machine numbers it."""
        (name,) = self.daemon.docker("ps", "-q", "--filter", f"label=kohakuriver.instance={task}.1").split()
        return int(json.loads(self.daemon.docker("inspect", name))[0]["State"]["Pid"])


@contextmanager
def wire(daemon: Dockerd) -> Iterator[tuple[str, list[str]]]:
    """An address in the daemon's network, and what enters that network. The tests have the one before it."""
    pid = (daemon.directory / "pid").read_text().strip()
    name = f"kr{os.getpid() % 100_000}a"
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    lines = [
        ["ip", "link", "add", name, "type", "veth", "peer", "name", "wire", "netns", pid],
        ["ip", "addr", "add", f"{NET}.1/24", "dev", name],
        ["ip", "link", "set", name, "up"],
        [*enter, "ip", "addr", "add", f"{NET}.2/24", "dev", "wire"],
        [*enter, "ip", "link", "set", "wire", "up"],
    ]
    for line in lines:
        subprocess.run(line, check=True, capture_output=True, timeout=60)
    try:
        yield f"{NET}.2", enter
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with (
        a_daemon(live_restore=True) as daemon,
        wire(daemon) as (address, enter),
        a_cluster(bind=address, before=enter, heartbeat_interval_seconds=1.0) as made,
    ):
        yield furnish(made, daemon, enter)


def furnish(cluster: Cluster, daemon: Dockerd, enter: list[str]) -> House:
    """What may be mounted is given generously: all of the node's home, in which its data lies."""
    cluster.start_host()
    (cluster.top / "shared").mkdir()
    allowed = [str(cluster.top / "one"), str(folder(cluster))]
    docker = {"enabled": True, "socket": str(daemon.socket), "mounts_allowed": allowed}
    cluster.add_runner("one", before=enter, shared_dir=str(cluster.top / "shared"), docker=docker)
    ada, bob = person(cluster, "ada"), person(cluster, "bob")
    text = LEAVES_MARKS.format(mark=MARK)
    victim = ada.submit("sh", "-c", text, image=IMAGE, cores=0, env={"MARK": MARK}, secrets={"KEY": f"{MARK}-secret"})
    cluster.until_status(victim, "running", within=60)
    marked = cluster.top / "shared" / "ada" / "file"
    until(marked.exists, within=60, what="the marks are there", tell=cluster.story)
    return House(cluster, daemon, ada, bob, victim)


def person(cluster: Cluster, name: str) -> Talk:
    link = cluster.api.post("/api/v1/users", {"name": name, "role": "user"})
    body = {"secret": link["secret"], "password": PASSWORD, "token": "tests"}
    return Talk(cluster.url).signed_in(cluster.api.post("/api/v1/auth/setup", body)["token"])


@pytest.fixture(scope="module")
def spied(house: House) -> dict[str, list[str]]:
    """What a task of bob's found while ada's ran."""
    credential = json.loads((house.data / "node.json").read_text())["credential"]
    needles = [MARK, credential, house.cluster.api.token, house.bob.token]
    places = [house.cluster.top, house.cluster.data, house.data, house.daemon.directory, house.daemon.socket]
    paths = [*map(str, places), "/var/run/docker.sock", "/run/docker.sock", "/run/containerd", "/shared/../ada"]
    task = house.bob.submit(*spying.command(needles, paths), image=IMAGE, cores=0)
    view = house.cluster.until_status(task, *FINAL, within=120)
    assert view["status"] == "completed", house.cluster.told(task)
    return spying.parts(house.bob.output(task).decode())


@pytest.mark.parametrize("part", ["found", "paths", "sockets", "groups", "done"])
def test_nothing_is_found(spied: dict[str, list[str]], part: str) -> None:
    """No file, output, environment, credential of anybody; no path, no socket, no group of others; no right to do more."""
    assert spied[part] == []


def test_what_is_there_is_known(spied: dict[str, list[str]]) -> None:
    assert set(spied["devices"]) <= DEVICES, spied["devices"]
    apart = {place for place in spied["mounts"] if not place.startswith(("/proc", "/sys"))}
    assert apart == MOUNTS
    assert set(spied["environment"]) <= ENVIRONMENT, spied["environment"]
    assert set(spied["rights"]) == RIGHTS


def test_no_process_but_its_own_is_seen(spied: dict[str, list[str]]) -> None:
    assert spied["processes"][0] == "docker-init"
    assert set(spied["processes"]) <= {"docker-init", "sh", "cat"}


def test_it_lives_in_namespaces_of_its_own(house: House) -> None:
    inside, outside = (Path(f"/proc/{pid}/ns") for pid in (house.pid(house.victim), house.daemon._process.pid))
    same = [
        name
        for name in ("ipc", "mnt", "net", "pid", "uts")
        if (inside / name).readlink() == (outside / name).readlink()
    ]
    assert same == []


def test_one_port_is_reached_and_answers_as_to_any_stranger(house: House) -> None:
    """The host's API on the host's address; the runner and the daemon listen nowhere."""
    cluster = house.cluster
    open_to_all = spying.listeners(cluster.before)
    assert open_to_all == {(f"{NET}.2", cluster.port)}
    before = ["nsenter", f"--net=/proc/{house.pid(house.victim)}/ns/net"]
    assert {address for address, _ in spying.listeners(before)} <= {NAMES}
    env = {**cluster.env, "KOHAKURIVER_URL": cluster.url, "KOHAKURIVER_FINGERPRINT": cluster.fingerprint}
    for words in (
        ["version", "--server"],
        ["task", "list"],
        ["node", "list"],
        ["user", "list"],
        ["task", "logs", house.victim],
    ):
        done = run(words, env, before=before)
        assert (done.returncode, done.stdout) == (4, ""), f"{words}: {done}"
    joins = run(["node", "join", "one", "--token-stdin", "--url", cluster.url], env, before=before, data="nothing\n")
    assert joins.returncode != 0


@pytest.mark.parametrize("place", ["", "data", "data/jobs", "data/node.json", "data/jobs/{victim}.1/local_temp"])
def test_no_mount_leads_to_the_platform_or_to_another_task(house: House, place: str) -> None:
    """Also where the node's settings allow a directory that has all this in it."""
    source = house.cluster.top / "one" / place.format(victim=house.victim)
    assert source.exists()
    assert "belongs to the platform" in refused(house, house.bob, mounts=[f"{source}:/x"])
    assert "belongs to the platform" in refused(house, house.cluster.api, foreign_mounts=[f"{source}:/x"])


def test_a_way_that_a_task_lays_leads_nowhere(house: House) -> None:
    log = folder(house.cluster)
    options = {"mounts": [f"{log}:/log"]}
    laid = house.bob.submit("ln", "-s", str(house.data), "/log/way", image=IMAGE, cores=0, options=options)
    assert house.cluster.until_status(laid, *FINAL, within=60)["status"] == "completed"
    assert (log / "way").is_symlink()
    assert "belongs to the platform" in refused(house, house.bob, mounts=[f"{log}/way:/x"])
    assert "not below a directory" in refused(house, house.bob, mounts=["/etc:/x"])


def refused(house: House, who: Talk, **options: object) -> str:
    task = who.submit("true", image=IMAGE, cores=0, options=options)
    view = house.cluster.until_status(task, *FINAL, within=60)
    assert view["status"] == "failed", view
    return str(view["exit"]["reason"] if view["exit"] else view)


@pytest.mark.parametrize(
    "options",
    [{"privileged": True}, {"network": "host"}, {"foreign_mounts": ["/etc:/x"]}],
    ids=lambda one: next(iter(one)),
)
def test_what_opens_the_node_is_for_operators_alone(house: House, options: dict[str, object]) -> None:
    body = {"command": ["true"], "image": IMAGE, "cores": 0, "options": options}
    answer = house.bob.ask("POST", "/api/v1/tasks", body)
    assert (answer.status, answer.json["code"]) == (403, "not_allowed"), answer.body


def test_an_operators_privileged_task_has_every_right(house: House) -> None:
    text = "grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted"
    done = house.cluster.cli("run", "--image", IMAGE, "--privileged", "--", "sh", "-c", text)
    if not has_every_right():  # a machine that is a container itself: the runtime cannot give what it has not
        assert (done.returncode, "unable to apply caps" in done.stderr) == (125, True), done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1], 16) > 0xFB
    assert done.stdout.endswith("mounted\n")


def has_every_right() -> bool:
    """Whether the tests themselves hold every capability that the kernel knows."""
    bounds = re.search(r"^CapBnd:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert bounds
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(bounds[1], 16) == (1 << (last + 1)) - 1
