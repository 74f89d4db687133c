"""Figures beside their goals, and pairs of runs. Knows nothing of what is measured."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: pairs A B that a ratio takes at least
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number beside its goal. `most`: the goal is an upper bound. Without a goal it is told alone."""

    name: str
    what: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True
    #: all measured values, for the spread
    spread: Sequence[float] = ()
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal

    @property
    def verdict(self) -> str:
        """`met`, or by how much it was missed."""
        if self.goal is None:
            return ""
        if self.met:
            return "met"
        if not self.goal or not self.value:
            return "missed"
        ratio = self.value / self.goal if self.most else self.goal / self.value
        return f"missed: {ratio:.2f} x {'over' if self.most else 'under'}"

    def line(self) -> str:
        sign = "<=" if self.most else ">="
        goal = "" if self.goal is None else f"{sign} {number(self.goal)}"
        spread = ""
        if len(self.spread) > 1:
            low, middle, high = min(self.spread), statistics.median(self.spread), max(self.spread)
            spread = f"[{number(low)} {number(middle)} {number(high)}]"
        told = f"{self.name:<3} {self.what:<62} {number(self.value):>7} {self.unit:<8} {goal:<8} {self.verdict:<20}"
        return f"{f'{told} {spread}'.rstrip()}{f'  ({self.note})' if self.note else ''}"

    def told(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met, "verdict": self.verdict}


@dataclass
class Book:
    """What was measured so far; each figure is printed as it comes."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, what: str, value: float, unit: str, **more: Any) -> None:
        figure = Figure(name=name, what=what, value=value, unit=unit, **more)
        self.figures.append(figure)
        print(figure.line(), flush=True)


def number(value: float) -> str:
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of them (0 to 1) do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def alternate(first: Callable[[], float], second: Callable[[], float], pairs: int = PAIRS) -> list[tuple[float, float]]:
    """Runs A B A B and gives both results of each pair."""
    return [(first(), second()) for _ in range(pairs)]


def ratios(pairs: Sequence[tuple[float, float]]) -> list[float]:
    return [a / b for a, b in pairs]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
