"""What this node's Docker can do, in words."""

import re

from kohakuriver.hooks.values import Probe
from kohakuriver_docker import devices, refusals
from kohakuriver_docker.config import Settings
from kohakuriver_docker.info import Info

#: the first versions without the escapes of November 2025 (CVE-2025-31133, -52565, -52881)
SAFE_RUNC = ((1, 2, 8), (1, 3, 3), (1, 4, 0))
NO_RESTORE = (
    'tasks end when Docker stops or restarts: set "live-restore": true in the daemon\'s configuration to keep them'
)


def describe(info: Info, settings: Settings, socket: str) -> Probe:
    """The probe's answer for a daemon that answers."""
    fatal = refusals.for_all(info)
    problems = []
    if not info.live_restore:
        problems.append(NO_RESTORE)
    if _is_old(info.runc):
        problems.append(
            f"runc {info.runc} is older than the fixes of CVE-2025-31133: update it, unless your distribution did"
        )
    how = devices.way(settings.gpus, info)
    facts = {
        "docker": f"{info.version} (API {info.api}) at {socket}",
        "cgroups": f"version {info.cgroup_version}, {info.cgroup_driver}",
        "storage": info.storage,
        "runtimes": ", ".join(sorted(info.runtimes)),
        "runc": info.runc,
        "live-restore": "on" if info.live_restore else "off",
        "cards": {"cdi": "by CDI", "hook": "by NVIDIA's runtime hook", None: "cannot be given to containers"}[how],
        "security": ", ".join(_security(info)),
    }
    return Probe(usable=not fatal, problems=(*fatal, *problems), facts=facts)


def _is_old(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return False
    found = tuple(int(number) for number in numbers.groups())
    same = [safe for safe in SAFE_RUNC if safe[:2] == found[:2]]
    return found < (same[0] if same else SAFE_RUNC[0])


def _security(info: Info) -> list[str]:
    return [word.partition("=")[2].partition(",")[0] or word for word in info.security or []]
