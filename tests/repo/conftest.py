"""The tracked files of the checkout, for tests about the project itself."""

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@cache
def _tracked() -> tuple[Path, ...]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = (Path(name) for name in listing.stdout.decode().split("\0") if name)
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tracked() -> tuple[Path, ...]:
    """Every file that belongs to the project, relative to its top."""
    return _tracked()


@pytest.fixture(scope="session")
def texts() -> dict[Path, str]:
    """The tracked files that are text, with what they say."""
    read = {}
    for name in _tracked():
        try:
            read[name] = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
    return read


@pytest.fixture(scope="session")
def trees(texts: dict[Path, str]) -> dict[Path, ast.Module]:
    """The Python files of the package and its plugins, parsed; migrations left out."""
    return {
        name: ast.parse(text)
        for name, text in texts.items()
        if name.suffix == ".py" and name.parts[0] in ("kohakuriver", "plugins") and "migrations" not in name.parts
    }
