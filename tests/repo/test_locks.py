"""The lock files: pinned, hashed, of one mind, and tied to no registry."""

import re
import tomllib
from pathlib import Path

import pytest

PIN = re.compile(r"^([a-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
LOCKS = ["requirements.lock", "contrib/test.lock"]


def pins(root: Path, lock: str) -> dict[str, str]:
    return dict(PIN.findall((root / lock).read_text()))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_what_the_lab_installs_the_tests_run_with(root: Path) -> None:
    larger = pins(root, "contrib/test.lock")
    assert {name: pin for name, pin in pins(root, "requirements.lock").items() if larger.get(name) != pin} == {}


def test_the_locks_hold_what_the_project_asks_for(root: Path) -> None:
    asked = tomllib.loads((root / "pyproject.toml").read_text())
    needed = named(asked["project"]["dependencies"] + asked["build-system"]["requires"])
    assert needed - pins(root, "requirements.lock").keys() == set()
    assert named(asked["project"]["optional-dependencies"]["dev"]) - pins(root, "contrib/test.lock").keys() == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str, root: Path) -> None:
    entries = (root / lock).read_text().split("\n")
    pinned = [number for number, line in enumerate(entries) if PIN.match(line)]
    assert pinned
    assert [entries[number] for number in pinned if "--hash=sha256:" not in entries[number + 1]] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_place(lock: str, root: Path) -> None:
    assert re.findall(r"\S*(?:://|--index|--find-links)\S*", (root / lock).read_text()) == []
