"""Bodies of the HTTP API about where tasks go: labels, what a submission would mean, why a task waits."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from kohakuriver.wire.api import ReasonView, Request, View

Label = Annotated[str, Meta(min_length=1, max_length=63)]


class LabelNode(Request, kw_only=True):
    """Labels to give a node; null takes one away that was given."""

    labels: Annotated[dict[Label, Annotated[str, Meta(max_length=128)] | None], Meta(max_length=64)]


class WindowView(View, kw_only=True):
    """When a task starts, by what stands before it now: no sooner than `earliest`, no later than `latest` if everybody
    keeps to their time limits and nothing comes before it. Without `latest`, `text` says what is not known.
    """

    earliest: datetime
    latest: datetime | None
    text: str


class CandidateView(View, kw_only=True):
    """A node: whether the task fits there now, whether it would go there, and why or why not."""

    node: str
    takes: bool
    chosen: bool
    reason: str


class ExplainView(View, kw_only=True):
    """Why a task stands where it stands; for one that waits, when it starts and what each node says to it."""

    task: str
    status: str
    reason: ReasonView | None
    window: WindowView | None
    candidates: list[CandidateView]


class PlannedView(View, kw_only=True):
    """What would become of tasks with one target."""

    target: str | None
    #: where the first of them would start now; null: it would wait
    node: str | None
    reason: ReasonView | None
    window: WindowView
    candidates: list[CandidateView]


class PlanView(View, kw_only=True):
    """What a submission would mean now. Nothing was stored."""

    #: tasks that it would make, and how many of those would start at once
    tasks: int
    starting: int
    places: list[PlannedView]
