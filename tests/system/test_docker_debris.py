"""After many tasks that end, are killed, and lose their runner or their daemon, nothing is left; strangers are untouched."""

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kohakuriver.testing.dockerd import IMAGE, Dockerd, a_daemon

from .boxes import folder
from .cluster import Cluster, a_cluster
from .debris import count
from .talk import FINAL
from .waits import until

pytestmark = pytest.mark.docker

CYCLES = 200 if os.environ.get("KOHAKURIVER_FULL_LENGTH") else 40
SEED = 7
#: what happens to a task at some moment of its life, and how often
FATES = {"ends": 6, "killed": 6, "killed at once": 4, "runner": 3, "host": 1}
#: out of so many cycles the daemon dies in one
DAEMON = 20


@contextmanager
def daemon_and_node() -> Iterator[tuple[Dockerd, Cluster]]:
    with a_daemon(live_restore=True) as daemon, a_cluster(heartbeat_interval_seconds=1.0) as made:
        made.start_host()
        docker = {"enabled": True, "socket": str(daemon.socket), "mounts_allowed": [str(folder(made))]}
        made.add_runner("one", docker=docker)
        (made.runners["one"].data / "backends" / "docker" / "begins").mkdir()  # made once, and kept empty
        yield daemon, made


def test_nothing_is_left_of_random_lives_and_strangers_are_untouched() -> None:
    with daemon_and_node() as (daemon, cluster):
        first = cluster.api.submit("sleep", "1000", image=IMAGE)
        cluster.until_status(first, "running")
        strangers = Strangers(daemon)
        assert cluster.api.status(first) == "running", cluster.told(first)
        cluster.api.change("kill", first, {"grace": 0})
        cluster.until_status(first, *FINAL)
        until(lambda: all_gone(cluster), within=60, what="the first is gone", tell=cluster.story)
        before, known = count(cluster, daemon), strangers.seen()
        live(cluster, daemon, random.Random(SEED))
        until(
            lambda: {view["status"] for view in cluster.api.all_tasks().values()} <= FINAL,
            within=240, what="every task has ended", tell=cluster.story,
        )  # fmt: skip
        until(
            lambda: not count(cluster, daemon).more_than(before),
            within=90, what="nothing is left",
            tell=lambda: f"{count(cluster, daemon).more_than(before)}\n{cluster.story()}",
        )  # fmt: skip
        assert strangers.seen() == known
        assert strangers.told() == []


def live(cluster: Cluster, daemon: Dockerd, chance: random.Random) -> None:
    """Tasks one after the other, each with its fate; moments come from the seed, what they meet from the machine."""
    fates = chance.choices(list(FATES), list(FATES.values()), k=CYCLES)
    for number, fate in enumerate(fates):
        seconds = chance.choice(["0", "0.2", "1000"]) if fate != "ends" else "0.1"
        mounts = [f"{folder(cluster)}:/log:ro"]
        text = f"echo out; touch /local_temp/file; mkdir -m 0 /local_temp/closed; sleep {seconds} & wait"
        task = cluster.api.submit("sh", "-c", text, image=IMAGE, options={"mounts": mounts}, cores=0)
        time.sleep(0 if fate == "killed at once" else chance.uniform(0, 0.5))
        if fate == "runner":
            cluster.runners["one"].server.again()
        elif fate == "host":
            cluster.host.again()
        if number % DAEMON == DAEMON // 2:
            daemon.kill()
            daemon.start()
        if fate != "ends":
            cluster.api.persist("POST", f"/api/v1/tasks/{task}/kill", {"grace": chance.choice([0, 1])})


def all_gone(cluster: Cluster) -> bool:
    return not list((cluster.runners["one"].data / "jobs").iterdir())


class Strangers:
    """Containers, a network and a volume of somebody else's, some of which look much like ours."""

    def __init__(self, daemon: Dockerd) -> None:
        self._daemon = daemon
        self._since = int(time.time())
        (ours,) = daemon.docker("ps", "--format", "{{.Names}}").split()
        labels = json.loads(daemon.docker("inspect", ours))[0]["Config"]["Labels"]
        runner = labels["kohakuriver.runner"]
        self.containers = [
            self._run(),
            self._run("--name", f"{ours.rpartition('-')[0]}-9.9"),
            self._run(*self._labels({**labels, "kohakuriver.runner": f"{runner}2", "kohakuriver.instance": "9.9"})),
            self._run(*self._labels({**labels, "kohakuriver.runner": runner[:-1]})),
            self._run(*self._labels({name: value for name, value in labels.items() if name != "kohakuriver.runner"})),
        ]
        network = ["network", "create", "--internal", "--label", f"kohakuriver.runner={runner}2"]
        self.networks = [daemon.docker(*network, "kr-net").strip()]
        self.volumes = [daemon.docker("volume", "create", "--label", f"kohakuriver.runner={runner}2").strip()]

    def seen(self) -> list[Any]:
        """All that the daemon says of them that another's hand would change."""
        found = []
        for one in json.loads(self._daemon.docker("inspect", *self.containers)):
            state = one["State"]
            found.append((one["Id"], one["Name"], state["Status"], state["Pid"], state["StartedAt"], one["Config"]))
        found += [one["Id"] for one in json.loads(self._daemon.docker("network", "inspect", *self.networks))]
        found += [one["Name"] for one in json.loads(self._daemon.docker("volume", "inspect", *self.volumes))]
        return found

    def told(self) -> list[str]:
        """Events of theirs that the daemon remembers since it last started, but of their beginning."""
        words = [word for name in self.containers for word in ("--filter", f"container={name}")]
        lines = self._daemon.docker(
            "events", "--since", str(self._since), "--until", "0s", "--format", "{{.Action}}", *words
        )
        return sorted(set(lines.split()) - {"create", "start"})

    def _run(self, *words: str) -> str:
        return self._daemon.docker("run", "-d", "--network", "none", *words, IMAGE, "sleep", "100000").strip()

    def _labels(self, labels: dict[str, str]) -> list[str]:
        return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
