"""From a job to an order for the shepherd: environment, user, directory, limits; and what a job may not ask for."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kohakuriver.errors import PluginError
from kohakuriver.hooks.values import Grant, Job
from kohakuriver_process.config import Options, Settings
from kohakuriver_process.limits import Limits
from kohakuriver_process.lost import SHEPHERD_MARK
from kohakuriver_process.place import moved
from kohakuriver_process.shepherd.hunt import MARK
from kohakuriver_process.shepherd.spawn import Order, User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = "/bin/sh"
#: shells of users that nobody signs in as; a program that asks for the user's shell could start nothing with them
NO_SHELLS = frozenset({"", "nologin", "false", "sync"})
PASSED_ON = ("LANG", "LC_ALL", "TZ")
CELLS = Path("/sys/devices/system/node")


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom tasks run as. `switch` is None when that is the runner's own user."""

    name: str
    home: str
    shell: str
    switch: User | None

    @property
    def uid(self) -> int:
        return os.getuid() if self.switch is None else self.switch["uid"]


def person(run_as: str | int | None) -> Person:
    """Who that is. Raises PluginError for an unknown user, or for another one when the runner is not root."""
    try:
        if run_as is None:
            entry = pwd.getpwuid(os.getuid())
        else:
            text = str(run_as)
            entry = pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
    except KeyError:
        if run_as is not None:
            raise PluginError(f"run_as names {run_as!r}, and this machine has no such user", field="run_as") from None
        return Person(name=str(os.getuid()), home="/", shell=SHELL, switch=None)
    if entry.pw_uid == os.getuid():
        return Person(name=entry.pw_name, home=entry.pw_dir, shell=entry.pw_shell, switch=None)
    if os.getuid() != 0:
        raise PluginError(f"run_as {run_as!r} needs a runner that is root", field="run_as")
    switch = User(uid=entry.pw_uid, gid=entry.pw_gid, groups=os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(name=entry.pw_name, home=entry.pw_dir, shell=entry.pw_shell, switch=switch)


def refusals(job: Job, limits: Limits, me: Person) -> list[str]:
    """Why the job can never run here; empty when it can."""
    found = []
    if job.image is not None:
        found.append("plain processes run on the node's own files and take no image")
    if job.persistent:
        found.append("plain processes cannot be persistent machines")
    if job.mounts:
        found.append("plain processes see the node's own directories and take no mounts")
    if job.net.mode != "host":
        found.append(f"plain processes use the node's own network, not {job.net.mode!r}")
    if job.user is not None and job.user not in (me.name, str(me.uid)):
        found.append(f"plain processes run as {me.name} here, not as {job.user!r}")
    if not job.argv or not job.argv[0]:
        found.append("there is no command")
    if any("\0" in word for word in job.argv):
        found.append("the command holds a NUL byte")
    if job.grant is not None:
        found += _unsuitable(job.grant) + limits.refuse(job.grant)
    return found


def _unsuitable(grant: Grant) -> list[str]:
    found = []
    strange = [device.id for device in grant.devices if "host" not in device.modes or device.uuid is None]
    if strange:
        found.append(f"plain processes cannot be given device {strange[0]}: the node's own driver does not serve it")
    if grant.disk is not None:
        found.append("plain processes cannot be limited in disk space")
    missing = sorted(set(grant.cpus or ()) - os.sched_getaffinity(0))
    if missing:
        found.append(f"processors {missing} are not there")
    if grant.numa is not None and not (CELLS / f"node{grant.numa}").exists():
        found.append(f"NUMA cell {grant.numa} is not there")
    return found


def order(
    job: Job, *, settings: Settings, limits: Limits, me: Person, shepherd: str, place: Path | None = None
) -> Order:
    """The order that starts the job, in its own directory or in a place of another user, which has its files."""
    options = job.options if isinstance(job.options, Options) else Options()
    made = Order(
        argv=list(job.argv) if place is None else moved(job, place),
        env=_environment(job, me, shepherd),
        cwd=job.workdir or str((place or job.directory) / "work"),
        user=me.switch,
        groups=[],
        cage=None,
        memory=None,
        cpus=[],
        cells=[],
        address_space=None,
        nice=options.nice,
        head=settings.output_head,
        tail=settings.output_tail,
    )
    limits.apply(made, _bounded(job.grant or Grant(), settings, limits), f"{shepherd}.{job.instance}")
    return made


def _bounded(grant: Grant, settings: Settings, limits: Limits) -> Grant:
    """The grant with the usual limit of processes, where one can be held and none was asked for."""
    if grant.pids is not None or not settings.most_processes:
        return grant
    bounded = replace(grant, pids=settings.most_processes)
    return grant if limits.refuse(Grant(pids=settings.most_processes)) else bounded


def _environment(job: Job, me: Person, shepherd: str) -> dict[str, str]:
    base: Mapping[str, str] = {
        "PATH": PATH,
        "HOME": me.home,
        "USER": me.name,
        "LOGNAME": me.name,
        "SHELL": SHELL if Path(me.shell).name in NO_SHELLS else me.shell,
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }
    return {**base, **job.env, **job.secrets, MARK: job.attempt, SHEPHERD_MARK: shepherd}
