"""What tests/conftest.py promises: no way out to the network, every skip told, and in CI none that nobody allowed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = """
import pytest

@pytest.mark.skip(reason="needs a card that nobody has")
def test_with_a_card(): ...

@pytest.mark.parametrize("number", [1, 2])
def test_with_reasons(number):
    pytest.skip("the moon is full")

def test_without(): ...
"""


def run(project: Path, **env: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "tests"], cwd=project,
        env={**surroundings, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A project with this one's conftest and skipping tests, of which one skip is allowed."""
    (tmp_path / "tests/domain").mkdir(parents=True)
    (tmp_path / "contrib").mkdir()
    (tmp_path / "tests/conftest.py").write_text((root / "tests/conftest.py").read_text())
    (tmp_path / "tests/domain/test_skipping.py").write_text(SKIPS)
    (tmp_path / "contrib/test-skips").write_text("# comment\nneeds a card :: no Debian machine has one\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return tmp_path


def test_the_last_lines_tell_every_skip_with_its_reason(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-3:] == [
        "skipped: 3",
        "  1 x needs a card that nobody has",
        "  2 x the moon is full",
    ]


def test_in_ci_a_skip_that_nobody_allowed_fails_the_run(project: Path) -> None:
    done = run(project, CI="true")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "  2 x the moon is full (not in contrib/test-skips: this fails the run)"


def test_in_ci_an_allowed_skip_passes(project: Path) -> None:
    (project / "contrib/test-skips").write_text("needs a card :: nobody has one\nthe moon :: it comes and goes\n")
    assert run(project, CI="true").returncode == 0


def test_every_allowed_skip_says_why(root: Path) -> None:
    lines = [line for line in (root / "contrib/test-skips").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not line.partition(" :: ")[2].strip()] == []


def test_tests_reach_this_machine_alone() -> None:
    with pytest.raises(PermissionError, match="this machine alone"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(PermissionError, match="this machine alone"):
        socket.getaddrinfo("example.net", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
