"""Machines as network namespaces around one bridge, on which the tests have an address too. Enter them with `nsenter --net`: `ip netns exec` hides the cgroups."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NET = "10.79.0"


@dataclass(frozen=True)
class Machine:
    """A namespace with one address."""

    name: str
    address: str

    @property
    def before(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def unplug(self) -> None:
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        _ip("-n", self.name, "link", "set", "eth0", "up")


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines on one wire; the names carry this process's id, so that runs do not meet."""
    mark = f"kr{os.getpid() % 100_000}"
    made = [Machine(f"{mark}n{number}", f"{NET}.{10 + number}") for number in range(count)]
    switch = f"{mark}sw"
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number, machine in enumerate(made):
            _ip("netns", "add", machine.name)
            _ip("-n", machine.name, "link", "set", "lo", "up")
            _ip(
                "-n", switch, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", machine.name
            )
            _ip("-n", switch, "link", "set", f"v{number}", "master", "br0", "up")
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.name, "link", "set", "eth0", "up")
        _ip("-n", switch, "link", "add", "here", "type", "veth", "peer", "name", mark, "netns", str(os.getpid()))
        _ip("-n", switch, "link", "set", "here", "master", "br0", "up")
        _ip("addr", "add", f"{NET}.2/24", "dev", mark)
        _ip("link", "set", mark, "up")
        yield made
    finally:
        for name in [*(machine.name for machine in made), switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
