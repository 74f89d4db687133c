"""What no module may do around the writer."""

import ast
import re
from pathlib import Path

import kohakuriver

PACKAGE = Path(kohakuriver.__file__).parent
#: SQLite's own words stand in these alone
SQLITE = {"store/sqlite.py", "store/migrate.py", "store/open.py"}
OWN_WORDS = re.compile(r"\b(PRAGMA|VACUUM|sqlite_master|BEGIN IMMEDIATE|INSERT OR|rowid)\b")


def _modules(*folders):
    for folder in folders:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            yield str(path.relative_to(PACKAGE)), path.read_text()


def _strings(tree):
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_only_the_writer_writes():
    """Tortoise's own writes would go round the expected counts, and its transactions block for ever when cancelled."""
    banned = {"in_transaction", "atomic", "execute_script", "save", "create", "bulk_create", "execute_insert"}
    found = [
        f"{name}:{node.lineno}"
        for name, text in _modules("store", "host", "web")
        if "migrations/" not in name and ("kohakuriver.store.models" in text or "tortoise" in text)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in banned
    ]
    assert found == []


def test_sqlite_s_own_words_stand_where_sqlite_is_opened():
    found = [
        f"{name}: {text}"
        for name, source in _modules("store", "host", "web")
        if name not in SQLITE
        for text in _strings(ast.parse(source))
        if OWN_WORDS.search(text)
    ]
    assert found == []
