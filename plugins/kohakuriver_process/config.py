"""Settings of the plugin and options of a task, as data."""

from typing import Annotated, Literal

import msgspec

Mode = Literal["auto", "systemd", "cgroup2", "cgroup1", "rlimits", "none"]
Bytes = Annotated[int, msgspec.Meta(ge=4096)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[plugins.process]`."""

    #: whether tasks may run as plain processes, which are no sandbox; the all-in-one lab turns it on
    enabled: bool = False
    #: user name or number that tasks run as; needs a runner that is root
    run_as: str | int | None = None
    #: where tasks that run as another user have their directories, each the user's own; not the runner's data directory
    work_dir: str = "/var/lib/kohakuriver-work"
    limits: Mode = "auto"
    #: most processes and threads of one task, so that a fork bomb ends at its own expense; 0 is no limit
    most_processes: Annotated[int, msgspec.Meta(ge=0)] = 16384
    #: first bytes kept of each output stream
    output_head: Bytes = 8 * 1024**2
    #: last bytes kept of each output stream
    output_tail: Bytes = 56 * 1024**2
    #: seconds that a shepherd stays that holds nothing and that nobody speaks to
    idle_seconds: Annotated[float, msgspec.Meta(ge=0.1)] = 30.0


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task may ask of this backend."""

    #: scheduling priority as nice(1) knows it; higher is more modest
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0
