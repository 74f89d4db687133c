"""A strict reader of the text format of metrics (https://prometheus.io/docs/instrumenting/exposition_formats/).

Raises ValueError where Prometheus, or the conventions of names and units, would have something to say.
"""

import math
import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
VALUE = re.compile(r"NaN|[+-]Inf|[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
KINDS = {"gauge", "counter", "histogram"}
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass
class Family:
    name: str
    help: str
    kind: str = ""
    #: (name, labels) -> value
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def value(self, suffix="", **labels):
        return self.samples[self.name + suffix, frozenset(labels.items())]

    def labels(self):
        return [dict(labels) for _, labels in self.samples]


def read(text):
    """The families by name."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    families, family = {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, told = line[7:].partition(" ")
            if name in families or not NAME.fullmatch(name) or not told:
                raise ValueError(line)
            family = families[name] = Family(name, told)
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            if family is None or name != family.name or family.kind or kind not in KINDS or family.samples:
                raise ValueError(line)
            family.kind = kind
        else:
            _sample(family, line)
    for family in families.values():
        _check(family)
    return families


def _sample(family, line):
    match = NAME.match(line)
    if match is None or family is None or not family.kind:
        raise ValueError(line)
    rest, labels = line[match.end() :], []
    if rest.startswith("{"):
        rest = rest[1:]
        while not rest.startswith("}"):
            pair = LABEL.match(rest)
            if pair is None:
                raise ValueError(line)
            labels.append((pair[1], re.sub(r"\\.", lambda escape: ESCAPES[escape[0]], pair[2])))
            rest = rest[pair.end() :].removeprefix(",")
        rest = rest[1:]
    if not rest.startswith(" ") or not VALUE.fullmatch(rest[1:]):
        raise ValueError(line)
    key = match[0], frozenset(labels)
    if key in family.samples or len(dict(labels)) < len(labels):
        raise ValueError(f"twice: {line}")
    family.samples[key] = float(rest[1:])


def _check(family):
    suffixes = {name.removeprefix(family.name) for name, _ in family.samples}
    allowed = {"_bucket", "_sum", "_count"} if family.kind == "histogram" else {""}
    if not suffixes <= allowed or not family.kind:
        raise ValueError(f"{family.name}: samples of {suffixes}")
    if (family.kind == "counter") != family.name.endswith("_total"):
        raise ValueError(f"{family.name}: counters end in _total, and nothing else does")
    if re.search(r"_(ms|minutes|kb|mb|percent)$", family.name):
        raise ValueError(f"{family.name}: base units")
    if family.kind == "counter" and any(value < 0 for value in family.samples.values()):
        raise ValueError(f"{family.name}: a counter below nothing")
    if family.kind == "histogram":
        _check_buckets(family)


def _check_buckets(family):
    """One series: every histogram here has no labels of its own."""
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in family.samples.items()
        if name.endswith("_bucket")
    ]
    if buckets != sorted(buckets) or [count for _, count in buckets] != sorted(count for _, count in buckets):
        raise ValueError(f"{family.name}: buckets are cumulative and rise")
    if not buckets or not math.isinf(buckets[-1][0]) or buckets[-1][1] != family.value("_count"):
        raise ValueError(f"{family.name}: the last bucket holds all")
