"""Labels of nodes, and what a task may ask of them: `key=value`, `key!=value`, `key`. Knows no node."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kohakuriver.errors import Invalid, shorten

KEY: Final = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?", re.ASCII)
VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._/+:-]{0,126}[A-Za-z0-9])?)?", re.ASCII)
MOST_LABELS: Final = 64
MOST_CONSTRAINTS: Final = 32
KEY_LIMIT: Final = "1 to 63 lower-case letters, digits, dots, hyphens, slashes and underscores"
VALUE_LIMIT: Final = "at most 128 letters, digits and . _ / + : - between them"
GRAMMAR: Final = "key=value, key!=value, or key alone: it has that label"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a node's label must be. `op` "has": there, with any value. A node without the label passes `!=`."""

    key: str
    op: Literal["=", "!=", "has"]
    value: str = ""

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.op:
            case "has":
                return self.key in labels
            case "=":
                return labels.get(self.key) == self.value
            case "!=":
                return labels.get(self.key) != self.value

    def __str__(self) -> str:
        return self.key if self.op == "has" else f"{self.key}{self.op}{self.value}"


def parse_constraint(text: str, *, field: str = "constraints") -> Constraint:
    """The constraint that the text means. Raises Invalid."""
    found = re.fullmatch(r"([^=!]*)(!?=)(.*)", text, re.DOTALL)
    if found is None:
        return Constraint(key=_key(text, field, text), op="has")
    op: Literal["=", "!="] = "=" if found[2] == "=" else "!="
    return Constraint(key=_key(found[1], field, text), op=op, value=_value(found[3], field, text))


def parse_constraints(texts: Sequence[str], *, field: str = "constraints") -> tuple[Constraint, ...]:
    """All of them, each once, in one order whatever theirs: what asks for the same is the same. Raises Invalid."""
    if len(texts) > MOST_CONSTRAINTS:
        raise Invalid("too many constraints", field=field, value=len(texts), limit=f"at most {MOST_CONSTRAINTS}")
    found = {parse_constraint(text, field=field) for text in texts}
    return tuple(sorted(found, key=str))


def check_labels(labels: Mapping[str, str], *, field: str = "labels") -> None:
    """Raises Invalid for a key or a value that no constraint could name, and for too many of them."""
    if len(labels) > MOST_LABELS:
        raise Invalid("a node has too many labels", field=field, value=len(labels), limit=f"at most {MOST_LABELS}")
    for key, value in labels.items():
        _key(key, field, key)
        _value(value, field, value)


def sound_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of the labels that `check_labels` would take, the first of them where there are too many."""
    sound = {key: value for key, value in labels.items() if KEY.fullmatch(key) and VALUE.fullmatch(value)}
    return dict(sorted(sound.items())[:MOST_LABELS])


#: before the names of labels that an operator gave, in the store, where those that a runner announced stand bare
GIVEN: Final = "="


def stored_labels(announced: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Both in one object."""
    return {**announced, **{GIVEN + key: value for key, value in given.items()}}


def split_labels(stored: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What was announced and what was given, out of the object that `stored_labels` made."""
    announced = {key: value for key, value in stored.items() if not key.startswith(GIVEN)}
    return announced, {key.removeprefix(GIVEN): value for key, value in stored.items() if key.startswith(GIVEN)}


def missing(constraints: Iterable[Constraint], labels: Mapping[str, str]) -> Constraint | None:
    """The first constraint that does not hold; None when all do."""
    return next((constraint for constraint in constraints if not constraint.holds(labels)), None)


def _key(key: str, field: str, whole: str) -> str:
    if not KEY.fullmatch(key):
        raise Invalid(f"{shorten(key)!r} is not a label's name", field=field, value=whole, limit=KEY_LIMIT)
    return key


def _value(value: str, field: str, whole: str) -> str:
    if not VALUE.fullmatch(value):
        raise Invalid(f"{shorten(value)!r} is not a label's value", field=field, value=whole, limit=VALUE_LIMIT)
    return value
