"""Settings of the plugin and options of a task, as data."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from kohakuriver.errors import PluginError

SOCKET = "/var/run/docker.sock"
MIB = 1024**2
#: of an option's JSON Schema: who asks for it needs the role operator; a list names the values that need it
OPERATOR = "x-operator"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[plugins.docker]`."""

    enabled: bool = True
    #: path of the Engine's socket; empty: that of DOCKER_HOST, else the usual one
    socket: str = ""
    #: directories of this node below which every user may mount
    mounts_allowed: tuple[str, ...] = ()
    #: the network of a task that names none: a bridge of ours whose containers cannot reach each other, or none at all
    network: Literal["private", "none"] = "private"
    #: most processes and threads of one task, so that a fork bomb ends at its own expense
    most_processes: Annotated[int, msgspec.Meta(ge=16)] = 4096
    #: bytes of /dev/shm; they count as memory of the task
    shm_size: Annotated[int, msgspec.Meta(ge=MIB)] = 1024 * MIB
    #: containers being created or started at once; 0 is four for each core
    most_starts: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: how cards get into containers; auto: CDI where the daemon has it, else NVIDIA's runtime hook
    gpus: Literal["auto", "cdi", "hook", "none"] = "auto"
    #: seconds without a word from the registry after which a pull is given up
    pull_silence: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    #: bytes, unpacked, of the largest image that is taken from a file
    most_image: Annotated[int, msgspec.Meta(ge=MIB)] = 128 * 1024 * MIB


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task may ask of this backend."""

    #: every capability and device of the node: the task is then root on it
    privileged: Annotated[bool, msgspec.Meta(extra_json_schema={OPERATOR: True})] = False
    #: SOURCE:TARGET[:ro], each source below a directory of `mounts_allowed`
    mounts: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()
    #: the same for any other directory of the node
    foreign_mounts: Annotated[tuple[str, ...], msgspec.Meta(max_length=64, extra_json_schema={OPERATOR: True})] = ()
    #: `host` is the node's own network, with everything that listens on its loopback
    network: Annotated[
        Literal["private", "none", "host"] | None, msgspec.Meta(extra_json_schema={OPERATOR: ["host"]})
    ] = None
    #: bytes of /dev/shm
    shm_size: Annotated[int, msgspec.Meta(ge=MIB, le=2**50)] | None = None


def socket_path(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Where the Engine listens. Raises PluginError for a DOCKER_HOST that is no unix socket."""
    if settings.socket:
        return settings.socket
    host = environ.get("DOCKER_HOST", "")
    if not host:
        return SOCKET
    scheme, _, path = host.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise PluginError(f"DOCKER_HOST is {host!r}: only a unix socket can be used, such as unix://{SOCKET}")
    return path
