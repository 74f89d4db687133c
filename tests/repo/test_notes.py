"""The notes tell what the code does: states, the walk, and the paths and names that they mention."""

import ast
import re
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kohakuriver.domain import lifecycle
from kohakuriver.domain.tasks import FINAL, HOLDING, Exit, Kind, Status, Task, TaskSpec, Wanted

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CODE = re.compile(r"`([^`\n]+)`")


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table under this header line."""
    lines = page.split(header, 1)[1].splitlines()[2:]
    table = lines[: lines.index("")] if "" in lines else lines
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def sample(status: Status, wanted: Wanted = Wanted.RUN) -> Task:
    spec = TaskSpec(kind=Kind.VPS, argv=("true",))
    return Task(id=1, batch=1, owner=1, spec=spec, status=status, wanted=wanted, generation=1, submitted=NOW)


#: what the words "by exit" and "as wanted" of the page mean
BY_EXIT = {"completed", "failed", "killed", "killed_oom", "timed_out", "stopped"}
AS_WANTED = {"killed", "stopped"}


def done(status: Status, kind: type) -> set[str]:
    """Where this edge may lead, by what is wanted and by how it ended."""
    # an end that is wanted is a status of its own, so elsewhere `run` is the only wish to look at
    wishes = (Wanted.RUN, Wanted.KILLED, Wanted.STOPPED) if status in (Status.STOPPING, Status.LOST) else (Wanted.RUN,)
    return {
        str(lifecycle.apply(sample(status, wanted), happened, NOW).status)
        for wanted in wishes
        for happened in events(kind)
    }


def events(kind: type) -> list[lifecycle.Event]:
    if kind is lifecycle.Exited:
        ends = (Exit(code=0), Exit(code=1), Exit(code=137, oom=True))
        signals = (Status.KILLED, Status.STOPPED, Status.TIMED_OUT)
        ours = [lifecycle.Exited(exit=Exit(code=143), signalled=signal) for signal in signals]
        return [lifecycle.Exited(exit=end) for end in ends] + ours
    given = {"reason": "why", "node": 1}
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    return [kind(**{name: given[name] for name in needed})]


def said(status: str, cell: str) -> set[str]:
    """The statuses that a cell of the page names."""
    words = BY_EXIT if "by exit" in cell else set()
    words = words | (AS_WANTED if "as wanted" in cell else set())
    return words | ({status} if "stays" in cell else set()) | set(CODE.findall(cell))


def test_the_page_of_states_is_the_table_of_the_code(root: Path) -> None:
    page = (root / "contrib/notes/states.md").read_text()
    told = {
        (status, name): said(status, to)
        for sources, names, to in rows(page, "| from | event | to |")
        for status in CODE.findall(sources)
        for name in CODE.findall(names)
    }
    assert told == {(str(status), kind.__name__): done(status, kind) for status, kind in lifecycle.TRANSITIONS}


def test_the_page_of_states_names_every_status_and_what_it_holds(root: Path) -> None:
    page = (root / "contrib/notes/states.md").read_text()
    said = {
        CODE.findall(status)[0]: (bool(holds), final.startswith("yes"))
        for status, _, holds, final in rows(page, "| status | it | holds a reservation | final |")
    }
    assert said == {str(status): (status in HOLDING, status in FINAL) for status in Status}


def _defined(root: Path, dotted: str) -> bool:
    """Whether `module.function` or `module.Class.method`, read from the package's top, is defined there."""
    parts = dotted.split(".")
    for top in (root / "kohakuriver", root / "plugins"):
        for cut in range(len(parts), 0, -1):
            path = top.joinpath(*parts[:cut])
            file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            if file.is_file() and _has(ast.parse(file.read_text()), parts[cut:]):
                return True
    return False


def _has(tree: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    if not names:
        return True
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == names[0]:
            return len(names) == 1 or (isinstance(node, ast.ClassDef) and _has(node, names[1:]))
    return False


def walk_names(root: Path) -> list[str]:
    """The dotted names in the second column of the walk."""
    page = (root / "contrib/notes/walk.md").read_text()
    cells = [row[1] for row in rows(page, "| # | where | what it passes on |")]
    return [name.partition("(")[0] for cell in cells for name in CODE.findall(cell) if "." in name.partition("(")[0]]


def test_the_walk_names_functions_that_exist(root: Path) -> None:
    names = walk_names(root)
    assert len(names) > 20
    assert [name for name in names if not _defined(root, name)] == []


def test_a_function_that_does_not_exist_is_noticed(root: Path) -> None:
    assert _defined(root, "domain.lifecycle.apply")
    assert not _defined(root, "domain.lifecycle.apply_all")
    assert not _defined(root, "domain.nothing.apply")


@pytest.mark.parametrize("page", ["README.md", "contrib/notes/onboarding.md", "contrib/notes/checklists.md"])
def test_paths_that_a_page_names_are_there(page: str, root: Path, tracked: tuple[Path, ...]) -> None:
    """A code span with a slash and a suffix, or that ends in a slash, is a path below the top or below the package."""
    files = {str(name) for name in tracked}
    folders = {f"{parent}/" for name in tracked for parent in name.parents}
    there = files | folders | {name.removeprefix("kohakuriver/") for name in files | folders}
    spans = CODE.findall((root / page).read_text())
    paths = [span for span in spans if re.fullmatch(r"(?!~|/|\./)[\w./-]+/([\w-]+\.\w+)?", span)]
    assert [path for path in paths if path not in there] == []


def test_links_between_pages_lead_somewhere(texts: dict[Path, str], root: Path) -> None:
    link = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")
    pages = {name: text for name, text in texts.items() if name.suffix == ".md"}
    dead = [
        f"{name}: {to}"
        for name, text in pages.items()
        for to in link.findall(text)
        if not (root / name.parent / to).exists()
    ]
    assert dead == []


def test_the_reading_order_is_short(root: Path) -> None:
    page = (root / "contrib/notes/onboarding.md").read_text()
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", page, re.MULTILINE)
    assert len(files) > 5
    assert sum((root / "kohakuriver" / file).read_text().count("\n") for file in files) <= 1500
