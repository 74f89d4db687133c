"""Words that stand in no tracked file, and why."""

import re
from pathlib import Path

import pytest

#: the test that bans them has to spell them
EXEMPT = {Path("tests/repo/test_words.py")}
LICENSE_TEXTS = {"LICENSE"}

BANNED = {
    "a registry's host would tie the project to one mirror": re.compile(
        r"(pypi|pythonhosted|npmjs|crates|rubygems)\.(org|io|com)|registry\.npmjs|deb\.debian|docker\.io/",
        re.IGNORECASE,
    ),
    "a path of one machine is wrong on every other": re.compile(
        r"(?<![\w.])/(work|root|home/\w+|Users/\w+|opt/kr-venv)/"
    ),
    "a note to do later belongs in an issue": re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"),
    "a banner separates what should be two files": re.compile(r"^\s*(#|//|/\*)\s*[=\-*#~_]{4,}", re.MULTILINE),
    "texts speak of the software": re.compile(
        r"\b(chatgpt|claude|copilot|anthropic|openai|language model)\b|\bas an ai\b", re.IGNORECASE
    ),
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


def test_every_module_says_what_it_owns(trees: dict[Path, object], texts: dict[Path, str]) -> None:
    import ast

    silent = []
    for name, tree in trees.items():
        if texts[name].strip() and not ast.get_docstring(tree):
            silent.append(str(name))
    assert silent == []


def test_a_module_docstring_is_at_most_a_few_lines_of_words(trees: dict[Path, object]) -> None:
    import ast

    assert [str(name) for name, tree in trees.items() if (ast.get_docstring(tree) or "").count("\n") > 20] == []
