"""What the host role is told at its start; `serve/host.py` makes it from the configuration."""

from dataclasses import dataclass, field
from pathlib import Path

from kohakuriver.domain.limits import Limits


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """Seconds and bytes throughout."""

    bind: str = "127.0.0.1"
    port: int = 8000
    #: how browsers and runners reach this host, without a path
    public_url: str = "http://127.0.0.1:8000"
    data_dir: Path
    #: False only on loopback: every request is then an admin's
    auth: bool = True
    #: SHA-256 of the certificate in DER form, as runners pin it; None: plain HTTP
    fingerprint: str | None = None
    session_idle: int = 12 * 3600
    session_most: int = 7 * 86_400
    token_days: int = 90
    #: tasks of the role `user` wait for an operator
    approve_users: bool = False
    #: most open tasks of one user; 0: no limit
    most_open: int = 0
    #: what one user may hold at once, where the account says nothing else; 0 is no limit
    most_held: Limits = field(default_factory=Limits)
    #: which of the nodes that fit a task gets it: a word of domain.strategies.STRATEGIES
    placement: str = "pack"
    default_grace: int = 5
    heartbeat: float = 5.0
    #: None: a silent node's tasks are never given up by themselves
    lost_after: int | None = None
    #: of tasks that are requeued from a silent node: its runner ends them after so long without contact
    lease: int = 60
    #: what the host waits beyond that
    lease_margin: float = 15.0
    output_days: int = 30
    #: submits are refused below this many free bytes on the data directory's file system
    disk_floor: int = 256 * 1024 * 1024
    #: requests a second of one credential, and how many at once before that counts; 0: no limit
    rate: int = 0
    burst: int = 0
    #: sessions of runners that may be opened at once
    handshakes: int = 16
    #: by which syncer new versions of environments travel
    environment_syncer: str = "direct"
    #: the node that keeps environment containers; "": the one on this machine, or the only one that can
    builder: str = ""
    #: versions of an environment beyond the newest so many go; 0: none
    environment_versions_kept: int = 5
    #: what a task without image and container runs in, where no plain processes run
    default_container_name: str = "kohakuriver-base"
    #: what the default environment is made of at its first use
    initial_base_image: str = "python:3.12-alpine"
    #: bytes of one archive, build context or file that is uploaded
    upload_most: int = 64 * 1024**3
    #: boot id of this machine; "" where the kernel does not tell
    boot: str = ""
