"""Every setting: its type, default, bounds and help, in the field itself. Knows no file, environment or user.

Names are the predecessor's in lower case where the thing still exists. A setting is added with the code that obeys it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

#: `extra` of a field: `form` names its reader in config/values.py, `unit` what the number counts, `secret` hides it,
#: `default` says in words what stands for the default where role or user decide
Bytes = Annotated[int, Meta(ge=0, le=2**62, extra={"form": "size", "unit": "bytes"})]
Seconds = Annotated[int, Meta(ge=0, le=10 * 365 * 86400, extra={"form": "duration", "unit": "seconds"})]
Url = Annotated[str, Meta(extra={"form": "url"})]
Place = Annotated[Path, Meta(extra={"form": "path"})]
OptionalPlace = Annotated[Path | None, Meta(extra={"form": "path"})]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that everybody speaks to: API, store, scheduler."""

    host_bind_ip: Annotated[
        str,
        Meta(
            description="Address to listen on. Beyond loopback the host speaks TLS.",
            extra={"form": "address", "default": "127.0.0.1; with `--role host` 0.0.0.0"},
        ),
    ] = "127.0.0.1"
    host_port: Annotated[
        int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes a free one and prints it.")
    ] = 8000
    data_dir: Annotated[
        Place,
        Meta(
            description="Database, output archive, keys. Made with mode 0700; one host at a time.",
            extra={"default": "/var/lib/kohakuriver/host as root, else ~/.kohakuriver/host"},
        ),
    ] = Path("/var/lib/kohakuriver/host")
    database: Annotated[
        str,
        Meta(
            description="Empty: SQLite in data_dir. Else the URL of a PostgreSQL database.",
            extra={"form": "database", "secret": True},
        ),
    ] = ""
    public_url: Annotated[
        Url,
        Meta(
            description="The URL under which runners and people reach this host; stands in join commands and links. "
            "Empty: made of the address listened on and host_port."
        ),
    ] = ""
    tls_cert: Annotated[
        OptionalPlace,
        Meta(description="PEM certificate chain. Empty: beyond loopback a self-signed one is made in data_dir."),
    ] = None
    tls_key: Annotated[OptionalPlace, Meta(description="PEM private key of tls_cert.")] = None
    insecure: Annotated[
        bool, Meta(description="Speak plain HTTP beyond loopback: everybody on the way can read and steal sign-ins.")
    ] = False
    auth_enabled: Annotated[
        bool, Meta(description="Ask who is there. `false` is accepted only while host_bind_ip is loopback.")
    ] = True
    log_level: Annotated[LogLevel, Meta(description="Least important messages to log.")] = "info"
    log_format: Annotated[LogFormat, Meta(description="`json` writes one object a line.")] = "text"
    session_expire_hours: Annotated[
        int,
        Meta(ge=1, le=8760, description="A browser session ends this long after signing in.", extra={"unit": "hours"}),
    ] = 168
    token_expire_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="Life of an API token that was made without an expiry of its own.",
            extra={"unit": "days"},
        ),
    ] = 90
    heartbeat_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.5,
            le=60,
            description="How often runners report load; the host tells them.",
            extra={"unit": "seconds"},
        ),
    ] = 5.0
    lost_after: Annotated[
        Seconds,
        Meta(description="Tasks of a node silent for this long are declared lost. 0: never, a person decides."),
    ] = 0
    lease: Annotated[
        int,
        Meta(
            ge=2,
            le=86_400,
            description="A runner without contact ends tasks of `--requeue` after this long, or four heartbeats.",
            extra={"form": "duration", "unit": "seconds"},
        ),
    ] = 60
    lease_margin: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="Beyond the lease, what a silent node has to end such tasks in.",
            extra={"form": "duration", "unit": "seconds"},
        ),
    ] = 15
    output_retention_days: Annotated[
        int,
        Meta(
            ge=0, le=36500, description="Output of ended tasks is kept this long. 0: for ever.", extra={"unit": "days"}
        ),
    ] = 30
    max_open_tasks_per_user: Annotated[
        int, Meta(ge=0, le=10_000_000, description="Tasks of one user that have not ended. 0: no limit.")
    ] = 0
    max_running_tasks_per_user: Annotated[
        int, Meta(ge=0, le=10_000_000, description="Tasks of one user that hold a place on a node. 0: no limit.")
    ] = 0
    max_cores_per_user: Annotated[
        int, Meta(ge=0, le=10_000_000, description="Cores that the tasks of one user hold at once. 0: no limit.")
    ] = 0
    max_memory_per_user: Annotated[
        Bytes, Meta(description="Memory that the tasks of one user hold at once. 0: no limit.")
    ] = 0
    max_gpus_per_user: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Cards that the tasks of one user hold at once. 0: no limit.")
    ] = 0
    placement: Annotated[
        Literal["pack", "spread", "first-fit", "round-robin"],
        Meta(
            description="Which of the nodes that fit a task gets it: the fullest, the emptiest, the first by name, or "
            "the one given work least recently."
        ),
    ] = "pack"
    default_grace: Annotated[
        Seconds, Meta(description="Time between SIGTERM and SIGKILL for a task that names none.")
    ] = 5
    environment_syncer: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description="By which syncer new versions of environments reach the nodes: direct, nfs, registry, or "
            "another plugin's.",
        ),
    ] = "direct"
    builder: Annotated[
        str,
        Meta(
            max_length=253,
            description="The node that keeps environment containers. Empty: the one on this machine, else the only one "
            "that can.",
        ),
    ] = ""
    environment_versions_kept: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Older versions of an environment go, but never one that a task is to run in. 0: none goes.",
        ),
    ] = 5
    environment_upload_most: Annotated[
        Bytes, Meta(description="Largest archive, build context, layer or file that is taken.")
    ] = 64 * 1024**3
    default_container_name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$",
            max_length=63,
            description="The environment of a task that names neither image nor environment, where no plain processes "
            "run. Made at its first use.",
        ),
    ] = "kohakuriver-base"
    initial_base_image: Annotated[
        str, Meta(min_length=1, max_length=512, description="The image of which default_container_name is made.")
    ] = "python:3.12-alpine"
    approve_users: Annotated[bool, Meta(description="Tasks of the role `user` wait for an operator's approval.")] = (
        False
    )
    rate_limit_per_second: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Requests a second for one signed-in client. 0: no limit.")
    ] = 100
    rate_limit_burst: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Requests that such a client may send at once.")
    ] = 500
    disk_floor: Annotated[
        Bytes, Meta(description="With less than this free under data_dir new tasks are refused; reports are not.")
    ] = 256 * 1024**2


class RunnerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine that runs tasks."""

    host_url: Annotated[Url, Meta(description="The host to dial. Empty: the one that this machine was joined to.")] = ""
    name: Annotated[
        str,
        Meta(
            description="Name of this node.",
            extra={"form": "name", "default": "the one it was joined under; with `--role all` the machine's host name"},
        ),
    ] = ""
    data_dir: Annotated[
        Place,
        Meta(
            description="Journal, credential, output of tasks. Made with mode 0700; one runner at a time.",
            extra={"default": "/var/lib/kohakuriver/runner as root, else ~/.kohakuriver/runner"},
        ),
    ] = Path("/var/lib/kohakuriver/runner")
    labels: Annotated[
        dict[str, str], Meta(description='Words about this node, e.g. `{room = "b12"}`.', extra={"form": "labels"})
    ] = msgspec.field(default_factory=dict)
    shared_dir: Annotated[
        OptionalPlace, Meta(description="Directory that all nodes share, e.g. an NFS mount. Empty: none.")
    ] = None
    local_temp_dir: Annotated[
        OptionalPlace,
        Meta(description="Fast scratch space of this node for tasks. Empty: the system's temporary directory."),
    ] = None
    reserved_cores: Annotated[
        int, Meta(ge=0, le=4096, description="Cores kept for the system: the node offers that many fewer.")
    ] = 0
    reserved_memory: Annotated[
        Bytes, Meta(description="Memory kept for the system: the node offers that much less.")
    ] = 512 * 1024**2
    pinnable_cpus: Annotated[
        tuple[int, ...],
        Meta(
            description="CPUs that are given out whole (`--pin`), e.g. `2-7,10`; the rest is shared. Empty: none.",
            extra={"form": "cpus"},
        ),
    ] = ()
    output_head: Annotated[Bytes, Meta(description="Kept from the beginning of each output stream of a task.")] = (
        8 * 1024**2
    )
    output_tail: Annotated[Bytes, Meta(description="Kept from its end; what lies between is dropped and counted.")] = (
        56 * 1024**2
    )
    image_unused_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36500,
            description="Images of environments that no task used for this long go. 0: never.",
            extra={"unit": "days"},
        ),
    ] = 30
    image_disk_floor: Annotated[
        Bytes,
        Meta(description="With less free under data_dir such images go, the longest unused first. 0B: never."),
    ] = 10 * 1024**3
    log_level: Annotated[
        LogLevel, Meta(description="Least important messages to log. With `--role all` that of [host] counts.")
    ] = "info"
    log_format: Annotated[
        LogFormat, Meta(description="`json` writes one object a line. With `--role all` that of [host] counts.")
    ] = "text"


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the commands of a person use."""

    url: Annotated[Url, Meta(description="The host to speak to.")] = "http://127.0.0.1:8000"
    token: Annotated[str, Meta(description="API token. Better kept in a file of its own.", extra={"secret": True})] = ""
    token_file: Annotated[
        OptionalPlace,
        Meta(
            description="File with the API token, mode 0600.",
            extra={"default": "what `kohakuriver auth login` wrote"},
        ),
    ] = None
    ca_file: Annotated[
        OptionalPlace,
        Meta(description="PEM certificate to trust, such as the host's self-signed one. Empty: the system's."),
    ] = None
    output: Annotated[Literal["table", "json", "yaml", "csv", "name"], Meta(description="How commands print data.")] = (
        "table"
    )


class PluginsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plugins: installed means enabled."""

    disabled: Annotated[
        tuple[str, ...], Meta(description="Names of installed plugins that are not loaded.", extra={"form": "list"})
    ] = ()
    #: `[plugins.NAME]` as plain values; the plugin itself says what they mean
    sections: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, typed. Each role is handed its own part."""

    host: HostConfig = HostConfig()
    runner: RunnerConfig = msgspec.field(default_factory=RunnerConfig)
    client: ClientConfig = ClientConfig()
    plugins: PluginsConfig = msgspec.field(default_factory=PluginsConfig)
