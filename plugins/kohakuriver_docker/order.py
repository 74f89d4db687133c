"""A job as the body of `ContainerCreate`: limits, profile, mounts. Asks nobody and decides nothing that check() did."""

from collections.abc import Mapping, Sequence
from typing import Any

from kohakuriver.hooks.values import Grant, Job, Mount
from kohakuriver_docker import devices
from kohakuriver_docker.config import Options, Settings
from kohakuriver_docker.devices import Way
from kohakuriver_docker.names import Names

#: microseconds of a period of the CPU limit, the kernel's default
PERIOD = 100_000
#: capabilities of an ordinary task; all others are taken away
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
LOGS = {"Type": "local", "Config": {"max-size": "64m", "max-file": "2", "compress": "false"}}


def options_of(job: Job) -> Options:
    return job.options if isinstance(job.options, Options) else Options()


def network_of(job: Job, settings: Settings) -> str:
    """private, none or host."""
    return options_of(job).network or ("none" if job.net.mode == "none" else settings.network)


def body(job: Job, settings: Settings, names: Names, *, mounts: Sequence[Mount], how: Way | None) -> dict[str, Any]:
    """What the daemon is asked to make."""
    assert job.image is not None
    cards = () if job.grant is None else job.grant.devices
    env = {**job.env, **job.secrets, **devices.environment(cards, how)}
    return {
        "Image": job.image.digest or job.image.reference,
        "Entrypoint": list(job.argv),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": job.user or "",
        "WorkingDir": job.workdir or "",
        "Hostname": _hostname(job.instance),
        "Labels": names.labels(job),
        "AttachStdin": False,
        "OpenStdin": False,
        "Tty": False,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_limits(job.grant or Grant(), settings),
            **_profile(job),
            "NetworkMode": _network(job, settings, names),
            "Mounts": [_mount(mount) for mount in mounts],
            "DeviceRequests": devices.requests(cards, how),
            "LogConfig": LOGS,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "PublishAllPorts": False,
            "Init": True,
            "ShmSize": options_of(job).shm_size or settings.shm_size,
        },
    }


def _limits(grant: Grant, settings: Settings) -> Mapping[str, Any]:
    limits: dict[str, Any] = {"PidsLimit": min(grant.pids or settings.most_processes, settings.most_processes)}
    if grant.cpus is not None:
        limits["CpusetCpus"] = ",".join(str(cpu) for cpu in grant.cpus)
    elif grant.cpu_milli is not None:
        limits["CpuPeriod"] = PERIOD
        limits["CpuQuota"] = grant.cpu_milli * PERIOD // 1000
    if grant.numa is not None:
        limits["CpusetMems"] = str(grant.numa)
    if grant.memory is not None:
        limits["Memory"] = limits["MemorySwap"] = grant.memory
    return limits


def _profile(job: Job) -> Mapping[str, Any]:
    if options_of(job).privileged:
        return {"Privileged": True}
    return {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
    }


def _network(job: Job, settings: Settings, names: Names) -> str:
    network = network_of(job, settings)
    return names.network if network == "private" else network


def _mount(mount: Mount) -> Mapping[str, Any]:
    return {
        "Type": "bind",
        "Source": str(mount.source),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _hostname(instance: str) -> str:
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in instance.lower())
    return f"task-{name}"[:63].rstrip("-")
