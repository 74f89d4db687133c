"""What all tests share: Hypothesis profiles, what a machine must have for a test, no way out to the network, the skip list."""

import functools
import ipaddress
import os
import shutil
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest

from kohakuriver.net import tls
from kohakuriver.testing import dockerd as docker_daemons

ROOT = Path(__file__).parents[1]
IN_CI = os.environ.get("CI", "").lower() == "true"

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
#: failing examples are kept beside the tests, where one may write there
KEPT = {} if os.access(ROOT, os.W_OK) and os.access(Path.cwd(), os.W_OK) else {"database": None}
hypothesis.settings.register_profile("here", deadline=None, **KEPT)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "here"))


# What a machine must have


@functools.cache
def why_no_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


@functools.cache
def why_no_netns() -> str | None:
    if why_no_root():
        return "needs root for network namespaces"
    if shutil.which("ip") is None:
        return "needs the program ip (Debian: iproute2)"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=60, check=False).returncode:
        return "needs a kernel that makes network namespaces for this user"
    return None


@functools.cache
def why_no_postgres() -> str | None:
    if shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return None
    return "needs the PostgreSQL server programs (Debian: postgresql)"


WHY_NOT = {
    "root": why_no_root,
    "netns": why_no_netns,
    "postgres": why_no_postgres,
    "docker": functools.cache(docker_daemons.why_not),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, why_not in WHY_NOT.items():
            if item.get_closest_marker(name) and (reason := why_not()):
                item.add_marker(pytest.mark.skip(reason=reason))


# No way out: an audit hook cannot be removed, so it is set once and asks a flag


class _Network:
    open = True


def _is_local(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _Network.open:
        return
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        raise PermissionError(
            f"tests reach this machine alone, not {host!r}; mark the test netns or move it to tests/system"
        )


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _this_machine_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.path.relative_to(ROOT).parts[1]
    _Network.open = folder in ("system", "plugins") or request.node.get_closest_marker("netns") is not None
    yield
    _Network.open = True


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A host's own certificate: the server's context, and the SHA-256 by which it is pinned."""
    paths = tls.ensure_certificate(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
    return tls.server_context(*paths), tls.fingerprint(paths[0])


# The skip list: every reason is told in the last lines; in CI only those of contrib/test-skips may stand there


def allowed_skips(text: str) -> dict[str, str]:
    """Beginning of a reason -> why no Debian machine could run it."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition(" :: ")[::2] for line in lines if line and not line.startswith("#"))
    return {reason.strip(): why.strip() for reason, why in pairs}


def skips_not_allowed(reasons: list[str], allowed: dict[str, str]) -> list[str]:
    return sorted({reason for reason in reasons if not reason.startswith(tuple(allowed))})


def _reasons(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return []
    skipped = (report.longrepr for report in reporter.stats.get("skipped", []))
    return [str(told[2]).removeprefix("Skipped: ") for told in skipped if isinstance(told, tuple)]


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    bad = skips_not_allowed(_reasons(session.config), allowed_skips((ROOT / "contrib/test-skips").read_text()))
    if IN_CI and bad and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reasons = _reasons(config)
    if reporter is None or config.option.collectonly:
        return
    allowed = allowed_skips((ROOT / "contrib/test-skips").read_text())
    bad = skips_not_allowed(reasons, allowed)
    reporter.write_line(f"skipped: {len(reasons)}" if reasons else "skipped: none")
    for reason, count in sorted(Counter(reasons).items()):
        verdict = " (not in contrib/test-skips: this fails the run)" if IN_CI and reason in bad else ""
        reporter.write_line(f"  {count} x {reason}{verdict}")
