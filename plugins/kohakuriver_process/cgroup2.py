"""Limits by control groups of version 2 (kernel: admin-guide/cgroup-v2), in a tree that is ours to write."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kohakuriver.hooks.values import Grant
from kohakuriver_process.limits import Unavailable, pin
from kohakuriver_process.shepherd.groups import Group, mounted
from kohakuriver_process.shepherd.spawn import Order

BASE = "kohakuriver"
CONTROLLERS = ("cpu", "memory", "cpuset", "pids")
#: without these two a tree can neither be held nor killed (Linux 5.2 and 5.14)
NEEDED = ("cgroup.freeze", "cgroup.kill")
PERIOD = 100_000
LEAST_QUOTA = 1_000


def find() -> "Cgroup2":
    """The tree and its controllers. Raises Unavailable when there is no tree to write.

    A systemd machine's tree belongs to systemd (systemd.io/CGROUP_DELEGATION): only a delegated part is used there.
    """
    mount = mounted().get("")
    if mount is None:
        raise Unavailable("not mounted")
    own = Path(mount["own"])
    if not os.access(own / "cgroup.procs", os.W_OK):
        raise Unavailable(f"{own} is not ours to write")
    parents = [own] if Path("/run/systemd/system").is_dir() else [Path(mount["top"]), own]
    reason = ""
    for parent in parents:
        try:
            base = parent / BASE
            base.mkdir(exist_ok=True)
        except OSError as error:
            reason = f"{parent}: {(error.strerror or str(error)).lower()}"
            continue
        missing = [name for name in NEEDED if not (base / name).exists()]
        if missing:
            raise Unavailable(f"the kernel lacks {', '.join(missing)}")
        return _with_controllers(parent, base)
    raise Unavailable(reason)


def _with_controllers(parent: Path, base: Path) -> "Cgroup2":
    reasons = {}
    for name in CONTROLLERS:
        for directory in (parent, base):
            try:
                _enable(directory, name)
            except OSError as error:
                reasons[f"cgroup {name}"] = f"{directory}: {(error.strerror or str(error)).lower()}"
                break
    enabled = frozenset((base / "cgroup.subtree_control").read_text().split())
    usable = " ".join(name for name in CONTROLLERS if name in enabled)
    return Cgroup2(base=base, enabled=enabled, facts={"controllers": usable or "none", **reasons})


def _enable(directory: Path, name: str) -> None:
    control = directory / "cgroup.subtree_control"
    if name not in control.read_text().split():
        control.write_text(f"+{name}")


@dataclass(frozen=True, kw_only=True)
class Cgroup2:
    """One directory a body."""

    base: Path
    enabled: frozenset[str]
    facts: Mapping[str, str]
    name: str = "cgroup2"

    def refuse(self, grant: Grant) -> list[str]:
        asked = {"cpu": grant.cpu_milli, "memory": grant.memory, "pids": grant.pids}
        return [
            f"the {name} controller cannot be used here: {self.facts.get(f'cgroup {name}', 'not enabled')}"
            for name, value in asked.items()
            if value is not None and name not in self.enabled
        ]

    def apply(self, order: Order, grant: Grant, body: str) -> None:
        directory = str(self.base / body)
        group = Group(directory=directory, before=[], after=[])
        if grant.cpu_milli is not None:
            quota = max(LEAST_QUOTA, grant.cpu_milli * PERIOD // 1000)
            group["before"].append(("cpu.max", f"{quota} {PERIOD}"))
        if grant.memory is not None:
            group["after"].append(("memory.max", str(grant.memory)))
            if self._swaps():
                group["after"].append(("memory.swap.max", "0"))
            order["memory"] = directory
        if grant.pids is not None:
            group["after"].append(("pids.max", str(grant.pids)))
        if "cpuset" in self.enabled:
            if grant.cpus is not None:
                group["before"].append(("cpuset.cpus", ",".join(map(str, grant.cpus))))
            if grant.numa is not None:
                group["before"].append(("cpuset.mems", str(grant.numa)))
        else:
            pin(order, grant)
        order["groups"].append(group)
        order["cage"] = directory

    def _swaps(self) -> bool:
        return (self.base / "memory.swap.max").exists()
