"""The README's commands exist, and its page of commands is complete."""

import re
import shlex
from pathlib import Path

import pytest

from kohakuriver.cli.main import NOUNS, SHORT, noun_parser
from kohakuriver.cli.parser import children

BLOCK = re.compile(r"^```(?:console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "contrib/notes/onboarding.md", "contrib/notes/plugins.md", "contrib/notes/settings.md"]


def commands(page: str) -> list[str]:
    """The lines of its blocks that are commands, prompts and comments taken off."""
    path = ROOT / page
    blocks = BLOCK.findall(path.read_text()) if path.exists() else []
    lines = (line.removeprefix("$ ").partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ours(page: str) -> list[list[str]]:
    words = (shlex.split(line) for line in commands(page))
    return [line[1:] for line in words if line[0] == "kohakuriver"]


def leaves(noun: str) -> list[str]:
    """Every command below a noun, as people type it."""
    found = []

    def walk(parser: object, name: str) -> None:
        below = children(parser)
        if not below:
            found.append(name)
        for verb, deeper in below.items():
            walk(deeper, f"{name} {verb}")

    walk(noun_parser(noun), noun)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_its_commands_are_understood(page: str) -> None:
    for line in ours(page):
        noun, *rest = [*SHORT.get(line[0], (line[0],)), *line[1:]]
        noun_parser(noun).parse_args(rest)


def test_its_page_of_commands_is_complete() -> None:
    section = (ROOT / "README.md").read_text().split("## The command line in a page")[1].split("\n## ")[0]
    said = {" ".join(line.split()) for line in section.replace("$ kohakuriver ", "\n@").splitlines()}
    told = {line.removeprefix("@") for line in said if line.startswith("@")}
    missing = [
        name for noun in NOUNS for name in leaves(noun) if not any(f"{line} ".startswith(f"{name} ") for line in told)
    ]
    assert missing == []
    assert [word for word in SHORT if f"`{word}`" not in section] == []


def test_its_scripts_are_there() -> None:
    scripts = {shlex.split(line)[0] for page in PAGES for line in commands(page)}
    ours_here = {script for script in scripts if "/" in script and not script.startswith((".venv", "/"))}
    assert [script for script in sorted(ours_here) if not (ROOT / script).is_file()] == []


def test_it_says_what_newcomers_ask() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    asked = [
        "Two commands",
        "A first real cluster",
        "Set up once, run on every node",
        "The command line in a page",
        "Settings",
        "Security",
        "Performance",
    ]
    assert headings[: len(asked)] == asked
    assert {"Reading the code", "What falls short"} <= set(headings)
