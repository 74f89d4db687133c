"""The systemd units, as systemd itself sees them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kohakuriver.config.service import UNITS, Service, unit_text

ROOT = Path(__file__).parents[2]


def verify(path: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit code {done.returncode}")


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (package systemd)"
)


@needs_systemd
@pytest.mark.parametrize("role", UNITS)
def test_systemd_takes_the_unit_without_a_word(role: str, tmp_path: Path) -> None:
    unit = tmp_path / UNITS[role]
    unit.write_text(unit_text(Service(role=role, python=Path(sys.executable), path="/usr/bin:/bin")))
    assert verify(unit) == ""


@needs_systemd
def test_strange_paths_reach_the_program_as_they_are(tmp_path: Path) -> None:
    python = tmp_path / "a b" / "py%n"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    unit = tmp_path / UNITS["all"]
    unit.write_text(
        unit_text(Service(role="all", python=python, config=Path("/etc/a b%$x;y.toml"), working_dir=tmp_path))
    )
    assert verify(unit) == ""
    assert '--config "/etc/a b%%$$x;y.toml"' in unit.read_text()


@needs_systemd
def test_the_check_itself_notices_a_wrong_line(tmp_path: Path) -> None:
    unit = tmp_path / UNITS["host"]
    unit.write_text(unit_text(Service(role="host", python=Path(sys.executable))).replace("KillMode=", "KillMood="))
    assert "KillMood" in verify(unit)


@pytest.mark.parametrize("role", UNITS)
def test_the_examples_are_up_to_date(role: str) -> None:
    example = ROOT / "contrib" / "systemd" / UNITS[role]
    assert example.read_text() == unit_text(Service(role=role, python=Path("/opt/kohakuriver/bin/python")))


@pytest.mark.parametrize("role", UNITS)
def test_stopping_a_unit_never_stops_work(role: str) -> None:
    lines = unit_text(Service(role=role, python=Path("/p"))).splitlines()
    assert {"Type=notify", "WatchdogSec=30", "KillMode=process", "Restart=always"} <= set(lines)
    assert ("ProtectSystem=strict" in lines) == (role == "host")
    assert ("Delegate=yes" in lines) == (role != "host")
