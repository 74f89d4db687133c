"""Every plugin of ours is found, shipped and fenced in like a stranger's; the example is a stranger's."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture
def plugins(tracked: tuple[Path, ...]) -> set[str]:
    return {name.parts[1] for name in tracked if name.parts[0] == "plugins" and name.name == "plugin.py"}


def test_each_has_an_entry_point(project: dict[str, Any], plugins: set[str]) -> None:
    points = project["project"]["entry-points"]["kohakuriver"].values()
    assert {point.removesuffix(".plugin") for point in points} == plugins


def test_each_is_in_the_wheel(project: dict[str, Any], plugins: set[str]) -> None:
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) == {"kohakuriver"} | {f"plugins/{name}" for name in plugins}


def test_each_is_named_by_the_import_contracts(project: dict[str, Any], plugins: set[str]) -> None:
    linter = project["tool"]["importlinter"]
    assert set(linter["root_packages"]) == {"kohakuriver"} | plugins
    by_name = {contract["name"]: contract for contract in linter["contracts"]}
    assert set(by_name["plugins see the public contract alone"]["source_modules"]) == plugins
    assert set(by_name["the core knows no plugin"]["forbidden_modules"]) == plugins
    assert set(by_name["plugins do not know each other"]["modules"]) == plugins


def test_every_package_of_the_core_has_its_place_in_the_layers(root: Path, project: dict[str, Any]) -> None:
    (layers,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    placed = {name.strip() for layer in layers["layers"] for name in layer.split("|")} | set(
        layers["exhaustive_ignores"]
    )
    found = {
        part.stem
        for part in (root / "kohakuriver").iterdir()
        if part.suffix == ".py" or (part / "__init__.py").is_file()
    }
    assert found - placed == {"__init__"}


def test_each_says_what_it_is(root: Path, plugins: set[str]) -> None:
    assert [name for name in sorted(plugins) if not (root / "plugins" / name / "README.md").is_file()] == []


def test_the_hooks_are_few_and_each_is_explained(root: Path) -> None:
    from kohakuriver.hooks import spec

    hooks = [value for value in vars(spec).values() if hasattr(value, "kohakuriver_spec")]
    page = (root / "contrib/notes/plugins.md").read_text()
    assert 0 < len(hooks) <= 10
    assert [hook.__name__ for hook in hooks if not hook.__doc__] == []
    assert [hook.__name__ for hook in hooks if f"### `{hook.__name__}`" not in page] == []


def test_each_hook_has_a_user_among_our_plugins(root: Path, plugins: set[str]) -> None:
    from kohakuriver.hooks import spec

    hooks = [value.__name__ for value in vars(spec).values() if hasattr(value, "kohakuriver_spec")]
    used = "".join((root / "plugins" / name / "plugin.py").read_text() for name in plugins)
    assert [hook for hook in hooks if f"def {hook}(" not in used] == []


def test_each_capability_is_on_the_page(root: Path) -> None:
    from kohakuriver.hooks.capabilities import CAPABILITIES

    page = (root / "contrib/notes/plugins.md").read_text()
    assert [kind.__name__ for kind in CAPABILITIES if f"`{kind.__name__}`" not in page] == []


def test_the_example_is_one_page_and_sees_the_public_contract_alone(root: Path) -> None:
    files = sorted((root / "contrib/example-plugin/kohakuriver_example").glob("*.py"))
    lines = {file.stem: file.read_text().count("\n") for file in files}
    assert lines["backend"] + lines["keeper"] <= 150
    assert lines["syncer"] <= 120
    assert lines["plugin"] <= 15
    assert set(lines) == {"__init__", "backend", "keeper", "plugin", "syncer"}
    imported = {
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.partition(".")[0] == "kohakuriver"
    }
    assert imported
    allowed = ("kohakuriver.hooks", "kohakuriver.domain", "kohakuriver.errors")
    assert [name for name in sorted(imported) if not name.startswith(allowed)] == []


def test_the_page_for_authors_says_what_the_example_does(root: Path) -> None:
    page = (root / "contrib/notes/plugins.md").read_text()
    project = tomllib.loads((root / "contrib/example-plugin/pyproject.toml").read_text())
    assert project["project"]["entry-points"] == {"kohakuriver": {"example": "kohakuriver_example.plugin"}}
    for words in (
        "contrib/example-plugin",
        "kohakuriver.testing.contracts",
        "BackendKit",
        "SyncerKit",
        "ctx.run",
        "ctx.in_thread",
    ):
        assert words in page
