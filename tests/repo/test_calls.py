"""Calls that the code must not make, each for a reason that a linter of types cannot know."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

Trees = dict[Path, ast.Module]


def _called(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def _where(trees: Trees, *banned: str) -> list[str]:
    return [f"{name}:{line}" for name, tree in trees.items() for called, line in _called(tree) if called in banned]


def test_no_task_without_a_group_that_watches_it(trees: Trees) -> None:
    assert _where(trees, "asyncio.create_task", "asyncio.ensure_future", "loop.create_task", "create_task") == []


def test_the_store_has_one_way_to_write(trees: Trees) -> None:
    """A request cancelled inside the ORM's transaction blocks its connection for ever; `execute_script` commits it."""
    bad = (
        "in_transaction",
        "atomic",
        "execute_script",
        "bulk_create",
        "bulk_update",
        "get_or_create",
        "update_or_create",
    )
    found = [
        f"{name}:{line}"
        for name, tree in trees.items()
        for called, line in _called(tree)
        if called.rpartition(".")[2] in bad
    ]
    assert found == []


#: what a statement is made with; the first argument is the table's model
STATEMENTS = {"insert", "insert_many", "insert_if", "update", "delete", "lock", "AtMost"}


def _models(tree: ast.AST) -> set[str]:
    """The models that a module imports."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "kohakuriver.store.models"
        for alias in node.names
    }


def _named_tables(tree: ast.AST) -> set[int]:
    """Which nodes are the table of a statement."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in STATEMENTS]
    tables = [call.args[0] for call in calls if call.args]
    return {
        id(node) for node in tables + [word.value for call in calls for word in call.keywords if word.arg == "model"]
    }


def rows_outside(trees: Trees) -> list[str]:
    """Where a model is more than the table of a statement, or is queried."""
    found = []
    for name, tree in trees.items():
        if name.parts[:2] == ("kohakuriver", "store"):
            continue
        models, tables = _models(tree), _named_tables(tree)
        found += [
            f"{name}:{node.lineno}"
            for node in ast.walk(tree)
            if (isinstance(node, ast.Name) and node.id in models and id(node) not in tables)
            or (isinstance(node, ast.Attribute) and node.attr == "of" and ast.unparse(node.value).endswith("reader"))
        ]
    return found


def test_rows_do_not_leave_the_store(trees: Trees) -> None:
    """Elsewhere a model names the table of a statement and nothing else; what is read comes as a value of the store's."""
    assert rows_outside(trees) == []


@pytest.mark.parametrize(
    "line",
    [
        "await store.reader.of(UserRow).get(id=1)",
        "row = UserRow(id=1)",
        "def find(user: UserRow) -> None: ...",
        "of = self._reader.of",
        "update(NodeRow, where={}, set={'owner': UserRow})",
    ],
)
def test_a_row_outside_the_store_is_noticed(line: str) -> None:
    tree = ast.parse(f"from kohakuriver.store.models import NodeRow, UserRow\n{line}")
    assert set(rows_outside({Path("kohakuriver/host/users.py"): tree})) == {"kohakuriver/host/users.py:2"}
    assert rows_outside({Path("kohakuriver/store/accounts.py"): tree}) == []


def test_programs_are_started_by_one_module(trees: Trees) -> None:
    doors = {Path("kohakuriver/net/process.py")}
    starters = ("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "subprocess.run", "subprocess.Popen",
                "subprocess.call", "subprocess.check_call", "subprocess.check_output", "os.system", "os.popen")  # fmt: skip
    elsewhere = {name: tree for name, tree in trees.items() if name not in doors and name.parts[0] == "kohakuriver"}
    allowed = ("kohakuriver/cli/", "kohakuriver/testing/")
    assert [found for found in _where(elsewhere, *starters) if not found.startswith(allowed)] == []


def test_only_the_loader_reads_the_environment(trees: Trees) -> None:
    """Settings come in by config/load.py; the client's own few variables by client/ and cli/; systemd's by serve/."""
    readers = (
        "kohakuriver/serve/",
        "kohakuriver/config/",
        "kohakuriver/client/",
        "kohakuriver/cli/",
        "kohakuriver/testing/",
        "plugins/",
    )
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    ]
    assert [where for where in found if not where.startswith(readers)] == []


def test_no_code_asks_for_a_plugin_by_name(trees: Trees) -> None:
    names = {"docker", "qemu", "direct", "nfs", "registry", "localauth"}
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if name.parts[0] == "kohakuriver"
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in names
    ]
    assert found == []


def test_tests_never_sleep(texts: dict[Path, str]) -> None:
    """A real process may force a test to look again: that is `kohakuriver.testing`'s or tests/system's, with a deadline."""
    sleeping = []
    for name, text in texts.items():
        if name.suffix == ".py" and name.parts[0] == "tests" and name.parts[1] not in ("system", "plugins", "repo"):
            sleeping += [f"{name}:{line}" for called, line in _called(ast.parse(text)) if called == "time.sleep"]
    assert sleeping == []


@pytest.mark.parametrize("folder", ["kohakuriver", "plugins"])
def test_status_is_written_in_one_place(folder: str, trees: Trees) -> None:
    """`domain.lifecycle` decides and `host.ledger` writes: nobody else assigns to a status."""
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if name.parts[0] == folder
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
        and target.attr == "status"
        and ast.unparse(target.value) in ("task", "row")
    ]
    assert found == []


def test_nothing_that_ships_imports_the_test_kit(trees: Trees) -> None:
    found = []
    for name, tree in trees.items():
        if name.parts[:2] == ("kohakuriver", "testing"):
            continue
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{name}:{node.lineno}" for module in names if f"{module}.".startswith("kohakuriver.testing.")]
    assert found == []
