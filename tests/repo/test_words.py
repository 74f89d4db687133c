"""Words that stand in no tracked file, and why."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: of this checkout, its account and its virtual environment
HERE = {str(ROOT), str(Path.home())} | ({sys.prefix} if sys.prefix != sys.base_prefix else set())
#: the test that bans them has to spell them
EXEMPT = {Path("tests/repo/test_words.py")}
LICENSE_TEXTS = {"LICENSE"}

BANNED = {
    "a registry's host would tie the project to one mirror": re.compile(
        r"(pypi|pythonhosted|npmjs|crates|rubygems)\.(org|io|com)|registry\.npmjs|deb\.debian|docker\.io/",
        re.IGNORECASE,
    ),
    "a path of one machine is wrong on every other": re.compile(
        rf"(?<![\w.])(/(root|home/\w+|Users/\w+)|{'|'.join(map(re.escape, sorted(HERE)))})/"
    ),
    "a note to do later belongs in an issue": re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"),
    "a banner separates what should be two files": re.compile(r"^\s*(#|//|/\*)\s*[=\-*#~_]{4,}", re.MULTILINE),
}


@pytest.mark.parametrize("reason", BANNED)
def test_no_tracked_file_says_it(reason: str, texts: dict[Path, str]) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group().strip()}"
        for name, text in texts.items()
        if name not in EXEMPT and name.name not in LICENSE_TEXTS
        for hit in BANNED[reason].finditer(text)
    ]
    assert found == [], reason


def test_every_module_says_what_it_owns(trees: dict[Path, ast.Module], texts: dict[Path, str]) -> None:
    assert [str(name) for name, tree in trees.items() if texts[name].strip() and not ast.get_docstring(tree)] == []
