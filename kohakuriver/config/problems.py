"""What is wrong with a configuration: every finding at once, each with its place, its setting and what was expected."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from kohakuriver.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding."""

    #: `path:line`, the name of a variable, or "command line"
    where: str
    #: `section.name`, or "" when the whole file is at fault
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class BadConfig(ConfigError):
    """the configuration cannot be used"""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """The message has one line a problem."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)), field=self.problems[0].key or None)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, else nothing."""
    lower = word.lower().replace("-", "_")
    choices = list(known)
    found = difflib.get_close_matches(lower, choices, n=1, cutoff=0.55)
    if not found:
        found = [choice for choice in choices if choice.endswith(f"_{lower}")][:1]
    return f"; did you mean {found[0]}?" if found else ""
