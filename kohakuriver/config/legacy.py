"""The predecessor's host_config.py and runner_config.py, read as literals, never run: what becomes of each setting."""

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kohakuriver.config.files import LARGEST
from kohakuriver.config.legacy_names import GONE, HOST_NAMES, KEPT, RUNNER_NAMES
from kohakuriver.config.problems import BadConfig, Problem
from kohakuriver.config.settings import by_key
from kohakuriver.config.values import Raw, read_value
from kohakuriver.config.variables import DEFAULT_PORT
from kohakuriver.errors import Invalid, shorten

Kind = Literal["host", "runner"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One setting of the old file. `key` is the setting that takes it over, "" when none does."""

    name: str
    line: int
    key: str = ""
    value: object = None
    #: why it is not taken over, or how it was changed
    note: str = ""

    @property
    def sentence(self) -> str:
        """For the report."""
        if self.key:
            return f"line {self.line}: {self.name} taken over as {self.key}" + (f" ({self.note})" if self.note else "")
        return f"line {self.line}: {self.name} {self.note}"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Every setting of an old file in its order."""

    kind: Kind
    findings: tuple[Finding, ...]

    @property
    def values(self) -> dict[str, object]:
        """What a new file sets, by `section.name`; the last mention counts."""
        return {finding.key: finding.value for finding in self.findings if finding.key}


def import_legacy(path: Path, kind: Kind | None = None) -> Imported:
    """Reads an old file. Without `kind` its names and its settings tell which one it is. Raises BadConfig."""
    tree = _parse(path)
    assigned = list(_assignments(tree))
    names = {name for name, _, _ in assigned}
    if kind is None:
        own = len(names & RUNNER_NAMES) - len(names & HOST_NAMES)
        kind = "runner" if own > 0 or (own == 0 and "runner" in path.name) else "host"
    return Imported(kind=kind, findings=tuple(_finding(kind, name, line, node) for name, line, node in assigned))


def _parse(path: Path) -> ast.Module:
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
    except OSError as error:
        raise _bad(str(path), f"it cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(source) > LARGEST:
        raise _bad(str(path), f"it is larger than {LARGEST} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise _bad(f"{path}:{error.lineno or 1}", f"it is not Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise _bad(str(path), "it is not Python that can be read") from None


def _assignments(tree: ast.Module) -> Iterator[tuple[str, int, ast.expr | None]]:
    """Names in capitals that are set; below the top level without their value, for it depends on what would run."""
    top = set(tree.body)
    for node in sorted(
        (n for n in ast.walk(tree) if isinstance(n, ast.Assign | ast.AnnAssign)), key=lambda n: n.lineno
    ):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper() and node.value is not None:
                yield target.id, node.lineno, node.value if node in top else None


def _finding(kind: Kind, name: str, line: int, node: ast.expr | None) -> Finding:
    if name in GONE[kind]:
        return Finding(name=name, line=line, note=f"no longer exists: {GONE[kind][name]}")
    key = KEPT[kind].get(name)
    if key is None:
        return Finding(name=name, line=line, note="is unknown: the predecessor did not read it either")
    try:
        value = ast.literal_eval(node) if node is not None else _not_literal()
    except (ValueError, TypeError, RecursionError, MemoryError):
        return Finding(name=name, line=line, note=f"is not a literal; set {key} by hand")
    value, note = _CHANGES.get(name, _same)(value)
    if value is None:
        return Finding(name=name, line=line, note=note)
    setting = by_key()[key]
    try:
        read = read_value(setting, Raw(value=value))
    except Invalid as error:
        return Finding(name=name, line=line, note=f"cannot become {key}: {error.message}")
    return Finding(name=name, line=line, key=key, value=read, note=note)


def _not_literal() -> object:
    raise ValueError


def _same(value: object) -> tuple[object, str]:
    return value, ""


def _level(value: object) -> tuple[object, str]:
    """`full` was everything."""
    word = str(value).lower()
    return {"full": "debug", "trace": "debug"}.get(word, word), ""


def _url(value: object) -> tuple[object, str]:
    """An address was all there was; hosts speak TLS beyond loopback."""
    address = str(value).strip()
    if address in {"127.0.0.1", "localhost", "::1", ""}:
        return None, f"was {shorten(address) or 'empty'}, which is the default now"
    bracketed = f"[{address}]" if ":" in address else address
    return f"https://{bracketed}:{DEFAULT_PORT}", "with the default port; change it if the host's differs"


def _bad(where: str, message: str) -> BadConfig:
    return BadConfig([Problem(where=where, key="", message=message)])


_CHANGES: Mapping[str, Callable[[object], tuple[object, str]]] = {
    "LOG_LEVEL": _level,
    "HOST_ADDRESS": _url,
    "HOST_REACHABLE_ADDRESS": _url,
}
