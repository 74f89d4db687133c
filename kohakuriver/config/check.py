"""What settings say about each other, and whether the files that they name are there. Looks, and changes nothing."""

import ipaddress
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from kohakuriver.config.problems import Problem
from kohakuriver.config.schema import Config, HostConfig, RunnerConfig

#: `section.name` to where it was set
Where = Callable[[str], str]


def cross_check(role: str, config: Config, where: Where) -> list[Problem]:
    """Every contradiction in the parts that the role uses."""
    found: list[tuple[str, str]] = []
    if role in {"host", "all"}:
        found += _host(config.host)
    if role in {"runner", "all"}:
        found += _runner(config.runner)
    if role == "all" and config.host.data_dir == config.runner.data_dir:
        found.append(("runner.data_dir", f"host and runner cannot share {config.host.data_dir}; name another folder"))
    if role == "client":
        found += _readable("client.ca_file", config.client.ca_file)
    return [Problem(where=where(key), key=key, message=message) for key, message in found]


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    return address == "localhost" or ipaddress.ip_address(address).is_loopback


def _host(host: HostConfig) -> Iterator[tuple[str, str]]:
    if not host.auth_enabled and not is_loopback(host.host_bind_ip):
        yield (
            "host.auth_enabled",
            f"false is accepted only with a loopback address, and host_bind_ip is {host.host_bind_ip}",
        )
    if host.tls_key is not None and host.tls_cert is None:
        yield "host.tls_key", "a key needs its certificate; set tls_cert too"
    if host.tls_cert is not None and host.tls_key is None:
        yield "host.tls_cert", "a certificate needs its key; set tls_key too"
    if host.insecure and host.tls_cert is not None:
        yield "host.insecure", "plain HTTP was asked for and tls_cert is set; drop one of them"
    yield from _readable("host.tls_cert", host.tls_cert)
    yield from _readable("host.tls_key", host.tls_key)
    yield from _folder_or_nothing("host.data_dir", host.data_dir)


def _runner(runner: RunnerConfig) -> Iterator[tuple[str, str]]:
    if runner.output_head + runner.output_tail == 0:
        yield "runner.output_tail", "output_head and output_tail are both 0: no output would be kept"
    yield from _folder_or_nothing("runner.data_dir", runner.data_dir)
    yield from _folder("runner.shared_dir", runner.shared_dir)
    yield from _folder("runner.local_temp_dir", runner.local_temp_dir)


def _readable(key: str, path: Path | None) -> Iterator[tuple[str, str]]:
    if path is None:
        return
    kind = _kind(path)
    if kind is not None and not stat.S_ISREG(kind):
        yield key, f"expected a file, and {path} is something else"
    elif kind is None or not os.access(path, os.R_OK):
        yield key, f"{path} is not there, or this user may not read it"


def _folder(key: str, path: Path | None) -> Iterator[tuple[str, str]]:
    if path is not None and not stat.S_ISDIR(_kind(path) or 0):
        yield key, f"expected a directory that exists, and {path} is none"


def _folder_or_nothing(key: str, path: Path) -> Iterator[tuple[str, str]]:
    if not stat.S_ISDIR(_kind(path) or stat.S_IFDIR):
        yield key, f"expected a directory, and {path} is something else"


def _kind(path: Path) -> int | None:
    """The mode of what lies there, None for nothing or nothing that this user may see."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None
