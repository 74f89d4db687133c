"""An installation of its own beside that of the tests: wheels built from the checkout, installed by pip, no index asked.

What the wheels need is what the tests' own environment has of it: links to those packages, and to nothing else.
"""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .serving import ROOT

EXAMPLE = ROOT / "contrib" / "example-plugin"
LIMIT = 300


@dataclass(frozen=True)
class Installation:
    """A virtual environment with KohakuRiver and the example plugin, and what their tests need."""

    top: Path

    @property
    def folder(self) -> Path:
        return self.top / "venv" / "bin"

    def python(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return _run([str(self.folder / "python"), "-B", *words], cwd=cwd or self.top)


def install(top: Path) -> Installation:
    """Everything new below `top`. AssertionError with what pip said."""
    made = Installation(top)
    _good([sys.executable, "-m", "venv", "--without-pip", str(top / "venv")])
    site = Path(_good([str(made.folder / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))
    for name in _needed(["kohakuriver", "pytest", "pytest-asyncio"]):
        _link(importlib.metadata.distribution(name), site)
    from_here = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(top)]
    _good([*_pip(sys.executable), "wheel", *from_here, str(ROOT), str(EXAMPLE)])
    wheels = ["--no-index", "--find-links", str(top)]
    _good([*_pip(str(made.folder / "python")), "install", *wheels, "kohakuriver-example[test]"])
    return made


def _pip(python: str) -> list[str]:
    """pip for this interpreter, which need not have one of its own."""
    carrier = sys.executable if importlib.util.find_spec("pip") else "/usr/bin/python3"
    return [carrier, "-m", "pip", "--python", python, "--disable-pip-version-check", "--no-input", "--quiet"]


def _needed(names: Sequence[str]) -> list[str]:
    """These distributions and all that they require here, less KohakuRiver itself."""
    found: set[str] = set()
    todo = [canonicalize_name(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return sorted(found - {"kohakuriver"})


def _link(distribution: importlib.metadata.Distribution, site: Path) -> None:
    for top in {file.parts[0] for file in distribution.files or []}:
        if top not in ("..", "__pycache__") and not top.endswith(".pth") and not (site / top).exists():
            (site / top).symlink_to(str(distribution.locate_file(top)))


def _good(words: Sequence[str]) -> str:
    done = _run(words)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def _run(words: Sequence[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    passed = {name: os.environ[name] for name in ("LANG", "PATH") if name in os.environ}
    return subprocess.run(
        list(words), cwd=cwd, env={**passed, "HOME": "/nonexistent"}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
