"""News fragments have a name and a kind that the release knows."""

import re
from pathlib import Path

FRAGMENT = re.compile(r"[a-z0-9-]+\.(feature|change|fix|security|removal)\.md")


def test_every_fragment_has_a_known_kind(tracked: tuple[Path, ...]) -> None:
    names = [name.name for name in tracked if name.parent == Path("contrib/news") and name.name != "README.md"]
    assert [name for name in names if not FRAGMENT.fullmatch(name)] == []


def test_every_fragment_says_something_short(root: Path, tracked: tuple[Path, ...]) -> None:
    texts = {str(name): (root / name).read_text() for name in tracked if name.parent == Path("contrib/news")}
    assert [name for name, text in texts.items() if not text.strip() or text.count("\n") > 20] == []
