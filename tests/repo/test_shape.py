"""Sizes, places and names: what keeps the tree findable."""

import ast
import statistics
from pathlib import Path

CODE = {".py", ".sh", ".rs", ".js", ".css", ".html"}
TOP = {
    "pyproject.toml", "README.md", "kohakuriver", "plugins", "templates", "static", "tunnel", "tests", "contrib",
    "LICENSE", "CHANGELOG.md", "requirements.lock",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager2"}
MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_HOOK_LINES = 200


def _lines(text: str) -> int:
    return text.count("\n")


def _code(texts: dict[Path, str]) -> dict[Path, str]:
    return {
        name: text
        for name, text in texts.items()
        if name.suffix in CODE and "migrations" not in name.parts and "vendor" not in name.parts
    }


def test_the_top_level_holds_what_newcomers_expect_and_nothing_else(tracked: tuple[Path, ...]) -> None:
    top = {name.parts[0] for name in tracked}
    assert {name for name in top if not name.startswith(".")} - TOP == set()


def test_no_file_of_code_is_longer_than_400_lines(texts: dict[Path, str]) -> None:
    assert {str(name): _lines(text) for name, text in _code(texts).items() if _lines(text) > MOST_LINES} == {}


def test_the_usual_module_is_short(trees: dict[Path, ast.Module], texts: dict[Path, str]) -> None:
    sizes = [lines for name in trees if (lines := _lines(texts[name])) > 5]
    assert statistics.median(sizes) < 150


def test_no_function_is_longer_than_a_screen(trees: dict[Path, ast.Module]) -> None:
    """40 lines are the habit; a table or a composition may take a few more."""
    long = {
        f"{name}:{node.lineno} {node.name}": size
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES
    }
    assert long == {}


def test_the_list_of_hooks_stays_short(texts: dict[Path, str]) -> None:
    assert _lines(texts[Path("kohakuriver/hooks/spec.py")]) < MOST_HOOK_LINES


def test_no_file_is_named_for_nothing(tracked: tuple[Path, ...]) -> None:
    assert [str(name) for name in tracked if BANNED_NAMES & {part.partition(".")[0] for part in name.parts}] == []


def test_tests_lie_where_the_thing_they_test_lies(root: Path, tracked: tuple[Path, ...]) -> None:
    own = {"repo", "system", "plugins", "vectors", "contrib"}
    mirrored = {part.name for part in (root / "kohakuriver").iterdir() if part.is_dir()} | {
        part.stem for part in (root / "kohakuriver").glob("*.py")
    }
    folders = {name.parts[1] for name in tracked if name.parts[0] == "tests" and len(name.parts) > 2}
    assert folders - own - mirrored == set()
