"""What each node says to one task, and when it may start: for people who ask, never part of a plan.

Everything here is as if the tasks before it were placed now; nothing is reckoned for tasks that come later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from kohakuriver.domain.backfill import lasts
from kohakuriver.domain.labels import missing
from kohakuriver.domain.limits import Usage
from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.placement import Planner
from kohakuriver.domain.queue import Queue, rank
from kohakuriver.domain.reasons import Reason, node_obstacle, too_little, would_delay
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.shapes import Shape
from kohakuriver.domain.strategies import Strategy, why_not
from kohakuriver.domain.tasks import Task

#: tasks before it that a window takes into account, one by one; with more of them it is unknown
MOST_AHEAD = 50


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A node, whether the task fits there now, and in words why it was chosen or why not."""

    node: str
    fits: bool
    chosen: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """When it starts: seconds from now at the earliest and, if that is known, at the latest; and in words why not."""

    earliest: float = 0.0
    latest: float | None = None
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What awaits a task. Without a reason it starts on the chosen node now."""

    chosen: str | None = None
    reason: Reason | None = None
    window: Window = field(default_factory=Window)
    #: the chosen node first, then those that would do, then the others
    verdicts: tuple[Verdict, ...] = ()


def outlook(
    snapshot: Snapshot, queue: Queue, task: Task, usage: Usage, strategy: Strategy, *, told: Reason | None = None
) -> Outlook:
    """What awaits the task, whether it stands in the queue or not; `told` is why it does not."""
    planner = Planner(snapshot, usage, strategy)
    planner.run(queue, before=task)
    shape = planner.shape(task)
    fitting = list(shape.fitting())
    allowed = planner.backfill.fitting(fitting, shape.need, task.spec)
    ranked = sorted(allowed, key=lambda room: strategy(room, shape.need))
    verdicts = [_verdict(planner, shape, room, ranked, strategy) for room in planner.rooms]
    verdicts.sort(key=lambda one: (not one.chosen, not one.fits))
    held_back = told or planner.held_back(task, shape)
    if held_back is None and ranked:
        return Outlook(chosen=ranked[0].node.name, window=Window(latest=0.0), verdicts=tuple(verdicts))
    reason = held_back or planner.why(shape)
    if told is not None:
        window = Window(unknown=told.text)
    elif held_back is not None:
        window = _limited(snapshot, task)
    else:
        window = _window(snapshot, queue, task, usage, strategy)
    if held_back is not None:
        verdicts = [Verdict(node=v.node, fits=v.fits, chosen=False, reason=_would(v)) for v in verdicts]
    return Outlook(reason=reason, window=window, verdicts=tuple(verdicts))


def _would(verdict: Verdict) -> str:
    return "it would fit there now" if verdict.chosen else verdict.reason


def _verdict(planner: Planner, shape: Shape, room: Room, ranked: Sequence[Room], strategy: Strategy) -> Verdict:
    node = room.node
    if room in ranked:
        best = ranked[0]
        chosen = room is best
        words = "it fits there now" if chosen else f"it fits there too; {why_not(strategy, best, room)}"
        return Verdict(node=node.name, fits=True, chosen=chosen, reason=words)
    return Verdict(node=node.name, fits=False, chosen=False, reason=_obstacle(planner, shape, room))


def _obstacle(planner: Planner, shape: Shape, room: Room) -> str:
    node = room.node
    if shape.node not in {None, node.name}:
        return f"the task asks for node {shape.node}"
    if not shape.here(node):
        return "its disk is on another node"
    lacking = missing(shape.constraints, node.labels)
    if lacking is not None:
        has = f"; its {lacking.key} is {node.labels[lacking.key]}" if lacking.key in node.labels else ""
        return f"it does not have {lacking}{has}"
    obstacle = node_obstacle(node, shape.backend)
    if obstacle is not None:
        return obstacle.text
    if not room.fits(shape.need):
        return too_little(shape.need, [room]).text
    return would_delay(node, planner.backfill.kept_for(room)).text


def _limited(snapshot: Snapshot, task: Task) -> Window:
    """Of a task that stands in the queue and does not wait for room."""
    if task.ready is not None and snapshot.at is not None and task.ready > snapshot.at:
        return Window(earliest=(task.ready - snapshot.at).total_seconds(), unknown="it is to be tried again later")
    return Window(unknown="it waits for a limit, and nobody knows when that leaves room")


def _window(snapshot: Snapshot, queue: Queue, task: Task, usage: Usage, strategy: Strategy) -> Window:
    """When it starts by the time limits of all that runs and of all that stands before it, each in its turn."""
    ahead = queue.ahead(task)
    if ahead > MOST_AHEAD:
        return Window(unknown=f"{ahead} tasks are before it, more than are reckoned with")
    planner = Planner(snapshot, usage, strategy, heads=MOST_AHEAD + 1)
    before = [one for one in queue if rank(one) < rank(task)]
    waiting = [cause for one in before if (cause := planner.consider(one)) is not None]
    limited = sum(cause.owner is not None or cause.reason is not None for cause in waiting)
    shape = planner.shape(task)
    start = planner.backfill.start(shape, task)
    if limited:
        return Window(unknown=f"{limited} of {len(before)} tasks before it wait for a limit, or for later")
    if start < inf:
        return Window(latest=start)
    if not shape.able:
        return Window(unknown="no node takes such work now")
    running = {held.task for room in shape.able for held in room.held}
    endless = sum(task not in snapshot.ends for task in running) + sum(lasts(one.spec) == inf for one in before)
    return Window(unknown=f"{endless} of {len(running) + len(before)} tasks before it have no time limit")
