"""Limits by control groups of version 1 (kernel: admin-guide/cgroup-v1)."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH103, PTH110, PTH118

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kohakuriver.hooks.values import Grant
from kohakuriver_process.limits import Unavailable, pin
from kohakuriver_process.shepherd.groups import Group, mounted, read, write
from kohakuriver_process.shepherd.spawn import Order

BASE = "kohakuriver"
CONTROLLERS = ("freezer", "cpu", "memory", "cpuset", "pids")
PERIOD = 100_000
LEAST_QUOTA = 1_000


def find() -> "Cgroup1":
    """The writable controllers. Raises Unavailable without the freezer, by which trees are held and killed."""
    bases = {}
    reasons = {}
    hierarchies = mounted()
    for name in CONTROLLERS:
        if name not in hierarchies:
            reasons[name] = "not mounted as version 1"
            continue
        mount = hierarchies[name]
        for parent in (mount["top"], mount["own"]):
            if not os.access(os.path.join(mount["own"], "cgroup.procs"), os.W_OK):
                reasons[name] = f"{mount['own']} is not ours to write"
                break
            try:
                bases[name] = _base(parent, name)
            except OSError as error:
                reasons[name] = f"{parent}: {(error.strerror or str(error)).lower()}"
                continue
            break
    if "freezer" not in bases:
        raise Unavailable(f"freezer: {reasons['freezer']}")
    missing = {f"cgroup {name}": reasons[name] for name in CONTROLLERS if name not in bases}
    return Cgroup1(bases=bases, facts={"controllers": " ".join(bases), **missing})


def _base(parent: str, name: str) -> str:
    directory = os.path.join(parent, BASE)
    os.makedirs(directory, exist_ok=True)
    if name == "cpuset":
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read(directory, file).strip():
                write(directory, file, read(parent, file).strip())
    if not os.access(os.path.join(directory, "cgroup.procs"), os.W_OK):
        raise PermissionError(13, "not ours to write")
    return directory


@dataclass(frozen=True, kw_only=True)
class Cgroup1:
    """One directory a controller and body, made only for what the grant asks; the freezer always."""

    name: str = "cgroup1"
    bases: Mapping[str, str]
    facts: Mapping[str, str]

    def refuse(self, grant: Grant) -> list[str]:
        asked = {"cpu": grant.cpu_milli, "memory": grant.memory, "pids": grant.pids}
        return [
            f"the {name} controller cannot be used here: {self.facts[f'cgroup {name}']}"
            for name, value in asked.items()
            if value is not None and name not in self.bases
        ]

    def apply(self, order: Order, grant: Grant, body: str) -> None:
        order["cage"] = self._add(order, "freezer", body)
        if grant.cpu_milli is not None:
            quota = max(LEAST_QUOTA, grant.cpu_milli * PERIOD // 1000)
            before = [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota))]
            self._add(order, "cpu", body, before=before)
        if grant.memory is not None:
            after = [("memory.limit_in_bytes", str(grant.memory))]
            if os.path.exists(os.path.join(self.bases["memory"], "memory.memsw.limit_in_bytes")):
                after.append(("memory.memsw.limit_in_bytes", str(grant.memory)))
            order["memory"] = self._add(order, "memory", body, after=after)
        if grant.pids is not None:
            self._add(order, "pids", body, after=[("pids.max", str(grant.pids))])
        self._pin(order, grant, body)

    def _pin(self, order: Order, grant: Grant, body: str) -> None:
        if grant.cpus is None and grant.numa is None:
            return
        base = self.bases.get("cpuset")
        if base is None:
            pin(order, grant)
            return
        cpus = ",".join(map(str, grant.cpus)) if grant.cpus is not None else read(base, "cpuset.cpus").strip()
        cells = str(grant.numa) if grant.numa is not None else read(base, "cpuset.mems").strip()
        self._add(order, "cpuset", body, before=[("cpuset.cpus", cpus), ("cpuset.mems", cells)])

    def _add(
        self,
        order: Order,
        name: str,
        body: str,
        before: list[tuple[str, str]] | None = None,
        after: list[tuple[str, str]] | None = None,
    ) -> str:
        directory = os.path.join(self.bases[name], body)
        order["groups"].append(Group(directory=directory, before=before or [], after=after or []))
        return directory
