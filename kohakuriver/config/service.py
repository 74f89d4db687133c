"""The systemd units as texts. What each line is for: contrib/systemd/README.md. Writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

#: role to the name of its unit
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "host": "kohakuriver-host.service",
        "runner": "kohakuriver-runner.service",
        "all": "kohakuriver.service",
    }
)
_ABOUT = {"host": "KohakuRiver host", "runner": "KohakuRiver runner", "all": "KohakuRiver host and runner"}
_COMMON = """\
Type=notify
NotifyAccess=main
WatchdogSec=30
TimeoutStartSec=120
TimeoutStopSec=20
Restart=always
RestartSec=2
RestartPreventExitStatus=2
KillMode=process
UMask=0077
LimitNOFILE=65536
StateDirectoryMode=0700
"""
_HOST = """\
CapabilityBoundingSet=
LockPersonality=true
NoNewPrivileges=true
PrivateDevices=true
PrivateTmp=true
ProtectClock=true
ProtectControlGroups=true
ProtectHome=read-only
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectSystem=strict
RemoveIPC=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
_RUNNER = """\
Delegate=yes
OOMPolicy=continue
TasksMax=infinity
"""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a unit is made of."""

    role: str
    #: the Python that has kohakuriver
    python: Path
    config: Path | None = None
    user: str | None = None
    working_dir: Path | None = None
    #: the PATH that tasks and helpers find programs on; None leaves systemd's
    path: str | None = None


def unit_text(service: Service) -> str:
    """The unit file. Values are escaped; systemd-analyze verify takes it without a word."""
    after = "network-online.target" + ("" if service.role == "host" else " docker.service")
    command = [str(service.python), "-m", "kohakuriver", "serve", "--role", service.role]
    if service.config is not None:
        command += ["--config", str(service.config)]
    states = ("host", "runner") if service.role == "all" else (service.role,)
    lines = [f"ExecStart={' '.join(map(_word, command))}"]
    if service.user:
        lines.append(f"User={_plain(service.user)}")
    if service.working_dir is not None:
        lines.append(f"WorkingDirectory={_plain(str(service.working_dir))}")
    if service.path:
        lines.append(f"Environment={_word('PATH=' + service.path)}")
    lines.append("StateDirectory=" + " ".join(f"kohakuriver/{state}" for state in states))
    return (
        f"[Unit]\nDescription={_ABOUT[service.role]}\nWants=network-online.target\nAfter={after}\n\n"
        f"[Service]\n{chr(10).join(lines)}\n{_COMMON}{_HOST if service.role == 'host' else _RUNNER}\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a command or an assignment: systemd.syntax(7) and the `$` of systemd.service(5)."""
    safe = _plain(text).replace("$", "$$") if not text.startswith("PATH=") else _plain(text)
    if all(char.isalnum() or char in "/._-=:+,@%$" for char in safe):
        return safe
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'
