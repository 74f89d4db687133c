"""What a runner is told at its start. Filled by `serve/node.py` from the configuration; reads no file itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class OutputLimits:
    """How much of each stream is kept. Bytes; architecture.md §6a."""

    head: int = 8 * MIB
    tail: int = 56 * MIB
    #: size of one file of the tail
    segment: int = 8 * MIB
    #: kept in memory before it is written to a file; a backend can give it again after a crash
    pending: int = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """One runner. Seconds and bytes."""

    data_dir: Path
    #: an https or http URL without a path
    host_url: str
    #: SHA-256 of the host's certificate in hex; None: an authority's word, or no TLS
    fingerprint: str | None = None
    #: the node's credential
    credential: str
    #: name of this node
    name: str
    #: id of the cluster it was joined to
    cluster: str = ""
    #: the backend for an assignment that names none
    default_backend: str | None = None
    #: a directory that all nodes share, told to every job
    shared_dir: Path | None = None
    #: cores and memory that are kept for the machine itself
    reserved_cores: int = 0
    reserved_memory: int = 0
    #: cpus that are given out whole; None: none is set apart
    pinnable_cpus: tuple[int, ...] | None = None
    #: fast scratch space of this node, told to every job
    local_temp_dir: Path | None = None
    #: directories of the platform beside `data_dir`, such as a host's on this machine
    closed: tuple[Path, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    #: each backend's own section of the configuration
    backend_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: each syncer's own section of the configuration
    syncer_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    output: OutputLimits = field(default_factory=OutputLimits)
    #: images of environments that nothing has used for so long go; 0: never
    image_unused_days: int = 30
    #: with less free than this, those that nothing uses go, the longest unused first; 0: never
    image_disk_floor: int = 10 * 1024 * MIB
    #: limits of single backend calls
    check_limit: float = 10.0
    prepare_limit: float = 3600.0
    create_limit: float = 120.0
    start_limit: float = 120.0
    see_limit: float = 30.0
    remove_limit: float = 120.0
    #: of a stop, counted from the end of its grace; then it is asked for again
    stop_limit: float = 120.0
    #: how long the last bytes of output are waited for after the end
    drain_limit: float = 10.0
