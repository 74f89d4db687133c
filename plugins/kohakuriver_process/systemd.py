"""On a systemd machine the shepherd runs in a scope of its own with a delegated tree (systemd.io/CGROUP_DELEGATION).

So it is no part of the runner's service, needs one call of systemd-run(1) in its life instead of one a task, and
limits bodies by groups below its scope as `cgroup2` does.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kohakuriver.hooks.values import Grant
from kohakuriver_process.cgroup2 import Cgroup2
from kohakuriver_process.limits import EVERYDAY, Unavailable
from kohakuriver_process.shepherd.groups import mounted
from kohakuriver_process.shepherd.spawn import Order

TRY_SECONDS = 10
RUNNING = Path("/run/systemd/system")


def find() -> "Systemd":
    """The manager that makes scopes for this user. Raises Unavailable; makes one scope to be sure."""
    if not RUNNING.is_dir():
        raise Unavailable("systemd is not process 1")
    program = shutil.which("systemd-run")
    if program is None:
        raise Unavailable("systemd-run is not installed")
    if "" not in mounted() or "memory" in mounted():
        raise Unavailable("the machine does not use cgroup version 2 alone")
    user = [] if os.getuid() == 0 else ["--user"]
    prefix = [program, *user, "--scope", "--collect", "--quiet", "--property=Delegate=yes", "--"]
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=TRY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip() or f"systemd-run exits {done.returncode}")
    return Systemd(prefix=tuple(prefix))


@dataclass(frozen=True, kw_only=True)
class Systemd:
    """How the shepherd is to be started. Its own tree, once it runs, is what limits."""

    prefix: tuple[str, ...]
    name: str = "systemd"
    facts: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, grant: Grant) -> list[str]:
        """Nothing is known before the shepherd runs; an everyday grant is what systemd delegates to anyone."""
        if grant == EVERYDAY:
            return []
        return ["the shepherd that runs here was started without a scope; it is replaced once it is idle"]

    def apply(self, order: Order, grant: Grant, body: str) -> None:  # noqa: ARG002 -- refused above
        raise Unavailable("the shepherd has no scope")


def below(tree: str, enabled: list[str]) -> Cgroup2:
    """The limits of a shepherd that says that this tree was delegated to it."""
    facts = {"scope": tree, "controllers": " ".join(enabled) or "none"}
    return Cgroup2(base=Path(tree), enabled=frozenset(enabled), facts=facts, name="systemd")
