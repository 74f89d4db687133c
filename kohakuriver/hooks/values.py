"""Values that cross the border between the core and a plugin, API version 1 (contracts.md §4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from kohakuriver.domain.resources import Device

API_VERSION = 1

__all__ = [
    "API_VERSION",
    "Chunk",
    "Device",
    "Exit",
    "Features",
    "Grant",
    "Handle",
    "Image",
    "Job",
    "Mount",
    "Net",
    "Offsets",
    "Probe",
    "Seen",
    "Stats",
]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What was reserved: apply all of it or refuse in check(). None is no limit."""

    #: thousandths of a core
    cpu_milli: int | None = None
    #: whole cores of its own
    cpus: tuple[int, ...] | None = None
    #: the cell whose memory it is bound to
    numa: int | None = None
    #: bytes
    memory: int | None = None
    pids: int | None = None
    #: bytes
    disk: int | None = None
    devices: tuple[Device, ...] = ()
    device_share_milli: int = 1000


@dataclass(frozen=True, kw_only=True)
class Net:
    """The network a workload gets."""

    mode: Literal["none", "private", "overlay", "host"] = "host"
    bridge: str | None = None
    address: str | None = None
    gateway: str | None = None
    mac: str | None = None
    mtu: int | None = None
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A directory of the node inside the workload."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a workload is made from: a verified file, or a reference that the backend can fetch.

    With a digest, that very image is meant, and anything else that a path or reference leads to is an error.
    """

    kind: str
    digest: str = ""
    #: a bundle (hooks/bundles.py), or an archive as `docker save` writes it, compressed or not
    path: Path | None = None
    reference: str | None = None
    auth: str | None = None
    #: environment and number of the version that it is, for its local name; "": it is none
    environment: str = ""
    number: int = 0
    pull: Literal["missing", "always", "never"] = "missing"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a backend is told about one attempt. `instance` names the durable body, `attempt` this run."""

    instance: str
    attempt: str
    owner: str
    persistent: bool = False
    argv: tuple[str, ...] = ()
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    mounts: tuple[Mount, ...] = ()
    image: Image | None = None
    grant: Grant | None = None
    net: Net = field(default_factory=Net)
    ssh_keys: tuple[str, ...] = ()
    #: the plugin's own until remove(); exists, mode 0700
    directory: Path
    #: the plugin's own Options, decoded
    options: Any = None


@dataclass(frozen=True, kw_only=True)
class Handle:
    """How a backend finds a body again after a restart. At most 16 KiB, no secrets; kept in the journal as JSON."""

    backend: str
    version: int = 1
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a run ended, in the runtime's words. `code` is None, with a reason, when the runtime cannot say.

    An end by signal n is told as code 128 + n, as shells and Docker do, with `signal` beside it.
    """

    code: int | None = None
    signal: int | None = None
    #: True only when the runtime says that the kernel ended it for want of memory
    oom: bool | None = None
    reason: str | None = None
    finished: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What stands where a handle points. `run` names this very start, such as a process id with its start time."""

    phase: Literal["created", "queued", "running", "paused", "exited", "gone"]
    run: str | None = None
    exit: Exit | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a backend can be asked for. An empty `images` is a backend that runs on the node's own files."""

    images: frozenset[str] = frozenset()
    nets: frozenset[str] = frozenset({"host"})
    device_modes: frozenset[str] = frozenset()
    persistent: bool = False
    remote: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a backend, syncer or provider finds here. Problems are sentences; a fatal one makes it unusable."""

    usable: bool
    problems: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Offsets:
    """Where to read on: bytes of each stream that the reader has."""

    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Bytes of one stream at their offset. A gap before `offset` are bytes that were dropped; without data, it tells
    of such a gap at the end.
    """

    stream: Literal["stdout", "stderr"]
    offset: int
    data: bytes
    #: True when the true offset may be larger, for bytes went by unseen
    at_least: bool = False


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a body used so far; None where the backend cannot tell."""

    cpu_seconds: float | None = None
    memory: int | None = None
    memory_peak: int | None = None
