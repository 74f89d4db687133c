"""Data directories of hosts with many finished tasks, made once a run and copied for each figure that needs one."""

import subprocess
import sys
from pathlib import Path

from filling import copy
from serving import Cluster, Place
from talk import Talk

FILLING = Path(__file__).with_name("filling.py")
NODES = ("node1", "node2", "node3")


class Filled:
    """The store with `count` finished tasks. Made on first use."""

    def __init__(self, place: Place, count: int) -> None:
        self.count = count
        self._place = place
        self._data: Path | None = None
        self._token = ""

    def cluster(self, place: Place) -> Cluster:
        """A host of its own over a copy, started and signed in."""
        cluster = Cluster(place)
        cluster.data.parent.mkdir(exist_ok=True)
        copy(self._made(), cluster.data)
        cluster.talk = Talk("", self._token)
        cluster.start_host()
        return cluster

    def _made(self) -> Path:
        if self._data is None:
            with Place() as place:
                cluster = Cluster(place)
                cluster.start_host()
                for name in NODES:
                    cluster.credential(name)
                self._token = cluster.talk.token
                cluster.host.stop()
                subprocess.run([sys.executable, str(FILLING), str(cluster.data), str(self.count)], check=True)
                self._data = self._place.top / f"filled-{self.count}"
                copy(cluster.data, self._data)
        return self._data
