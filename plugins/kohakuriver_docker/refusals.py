"""Why a job can never run here: what could not take effect is refused and never ignored."""

import re
from pathlib import Path

from kohakuriver.hooks.values import Grant, Job
from kohakuriver_docker import devices
from kohakuriver_docker.config import Settings
from kohakuriver_docker.info import Info
from kohakuriver_docker.order import network_of

#: the daemon refuses less
LEAST_MEMORY = 6 * 1024**2
#: name, tag and digest of an image, as the distribution's reference grammar has them; or an id
NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:(?:{HOST}|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?{NAME}(?:/{NAME})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{12,64}"
)


def refusals(job: Job, settings: Settings, info: Info) -> list[str]:
    """Sentences; none when it can run."""
    found: list[str] = []
    reference = None if job.image is None else job.image.digest or job.image.reference
    if reference is None:
        found.append("a container needs an image")
    elif len(reference) > 512 or not REFERENCE.fullmatch(reference):
        found.append(f"{reference[:80]!r} is no name of an image, such as debian:12")
    if not job.argv or not job.argv[0]:
        found.append("a container needs a command")
    if job.persistent or job.ssh_keys:
        found.append("containers that are started again are not supported yet")
    if job.net.mode == "overlay":
        found.append("the overlay network is not there yet")
    if job.workdir is not None and not job.workdir.startswith("/"):
        found.append(f"the working directory {job.workdir} is not absolute")
    if network_of(job, settings) == "private" and job.net.bridge is not None:
        found.append(f"the bridge {job.net.bridge} cannot be used by containers yet")
    return found + for_all(info) + _limits(job.grant or Grant(), info) + _devices(job, settings, info)


def for_all(info: Info) -> list[str]:
    """Why no job at all can run on this node; none when some can."""
    found: list[str] = []
    if info.system != "linux":
        found.append(f"containers of {info.system} are not supported")
    if not info.init:
        found.append("the daemon has no init for containers (docker-init)")
    if not info.pids_limit:
        found.append("the kernel of this node cannot limit the number of processes of containers")
    return found


def _limits(grant: Grant, info: Info) -> list[str]:
    found: list[str] = []
    if grant.disk is not None:
        found.append("containers cannot be limited in disk space here")
    if grant.memory is not None:
        if not info.memory_limit:
            found.append("the kernel of this node cannot limit the memory of containers")
        elif not info.swap_limit and has_swap():
            found.append("this node swaps and its kernel cannot limit that for containers (swapaccount=1)")
        if grant.memory < LEAST_MEMORY:
            found.append(f"a container needs at least {LEAST_MEMORY} bytes of memory")
    if grant.cpu_milli is not None and grant.cpus is None and not info.cpu_quota:
        found.append("the kernel of this node cannot limit the processor time of containers")
    if (grant.cpus is not None or grant.numa is not None) and not info.cpu_set:
        found.append("the kernel of this node cannot pin containers to cpus")
    return found


def _devices(job: Job, settings: Settings, info: Info) -> list[str]:
    if job.grant is None or not job.grant.devices:
        return []
    return devices.refusals(job.grant.devices, devices.way(settings.gpus, info))


def has_swap(table: Path = Path("/proc/swaps")) -> bool:
    """Whether this machine swaps at all (proc_swaps(5): one line of head)."""
    try:
        return len(table.read_text().splitlines()) > 1
    except OSError:
        return False
