"""Who runs where: `plan` places what fits, in order, and says with numbers why the rest waits.

Order: higher priority first, then older. A later task passes one that waits only where it does not move its start
(`backfill.py`). Tasks that ask for the same are one group: once its first does not fit, nobody behind it is looked at,
so that a placement costs the same in a long queue.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heapreplace

from kohakuriver.domain.backfill import HEADS, Backfill
from kohakuriver.domain.limits import Held, Usage, array_full, held_for, over_limit
from kohakuriver.domain.nodes import NodeStatus, Snapshot
from kohakuriver.domain.plans import Ahead, Cause, Placement, Plan, Reasons, Waiting, told_of
from kohakuriver.domain.queue import Queue, asks, group_of, rank
from kohakuriver.domain.reasons import Reason, waits_until, would_delay
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.shapes import Shape
from kohakuriver.domain.strategies import Strategy, pack
from kohakuriver.domain.tasks import Status, Task


def plan(
    snapshot: Snapshot,
    queue: Queue | Iterable[Task],
    usage: Usage | None = None,
    strategy: Strategy = pack,
    *,
    most: int | None = None,
    told: Mapping[int, Reason] | None = None,
) -> Plan:
    """Where each waiting task goes now, `most` of them at most. Pure: the same arguments give the same plan.

    Tasks of `queue` that do not wait for anything (neither pending nor for approval) are passed over. A plan of a Queue
    may be asked for reasons after the queue has changed; `told` are those of tasks that wait outside of it.
    """
    usage = usage or Usage()
    if not isinstance(queue, Queue):
        queue, told = _sorted_out(queue, usage.blocked)
    planner = Planner(snapshot, usage, strategy)
    planner.run(queue, most)
    return planner.result(queue, told or {})


def _sorted_out(tasks: Iterable[Task], blocked: Mapping[int, Reason]) -> tuple[Queue, dict[int, Reason]]:
    queue, told = Queue(), dict[int, Reason]()
    for task in tasks:
        reason = told_of(task, blocked)
        if reason is not None:
            told[task.id] = reason
        elif task.status is Status.PENDING:
            queue.add(task)
    return queue, told


class Planner:
    """One plan in the making. `explain.py` looks at it half done."""

    def __init__(self, snapshot: Snapshot, usage: Usage, strategy: Strategy, heads: int = HEADS) -> None:
        """`heads` is for how many of those that wait room is kept."""
        nodes = [node for node in snapshot.nodes if node.status is not NodeStatus.REVOKED]
        self.rooms = [Room(node, snapshot.reserved.get(node.id, ()), order) for order, node in enumerate(nodes)]
        for room in self.rooms:
            room.turn = snapshot.turns.get(room.node.id, 0)
        self._turn = max(snapshot.turns.values(), default=0)
        self._at = snapshot.at
        self._usage = usage
        #: of those for whom this plan placed something
        self._held: dict[int, Held] = {}
        self._arrays = Counter(usage.arrays)
        self._strategy = strategy
        self._shapes: dict[object, Shape] = {}
        self.backfill = Backfill(snapshot.ends, heads)
        self.placements: list[Placement] = []
        self._placed: dict[int, Task] = {}
        self._causes: dict[object, Cause] = {}
        self._looked_at = -1
        self._nothing_left = False

    def run(self, queue: Queue, most: int | None = None, before: Task | None = None) -> None:
        """Takes from the beginnings of the groups, in order, until nothing fits any more; only what comes `before`.
        With `most`, whoever comes after the last free core is not even asked, and has no reason.
        """
        until = None if before is None else rank(before)
        heap = [(rank(queue.task(group[0])), 0, group) for group in queue.groups()]
        heapify(heap)
        while heap and (most is None or len(self.placements) < most):
            mine, place, group = heap[0]
            if until is not None and mine >= until:
                break
            task = queue.task(group[place])
            cause = self.consider(task, len(group) - place)
            if cause is not None:
                self._causes[group_of(task)] = cause
                if most is not None and self._exhausted():
                    break
            elif place + 1 < len(group):
                heapreplace(heap, (rank(queue.task(group[place + 1])), place + 1, group))
                continue
            heappop(heap)

    def _exhausted(self) -> bool:
        """Whether nobody could start anywhere, for everybody needs a core."""
        if self._looked_at != len(self.placements):
            self._looked_at = len(self.placements)
            self._nothing_left = not any(room.has_a_core and room.node.obstacle is None for room in self.rooms)
        return self._nothing_left

    def consider(self, task: Task, count: int = 1) -> Cause | None:
        """Places it, or says what keeps it and so many behind it. What keeps one keeps the rest of its group."""
        shape = self.shape(task)
        told = self._told(task)
        if told is not None:
            return Cause(shape=shape, count=count, reason=told)
        if self._over(task.owner, shape) is not None:
            return Cause(shape=shape, count=count, owner=task.owner)
        fitting = shape.fitting() if shape.rooms else []
        allowed = self.backfill.fitting(fitting, shape.need, task.spec) if fitting else []
        if not allowed:
            self.backfill.block(shape, task)
            return Cause(shape=shape, count=count)
        self._place(task, shape, min(allowed, key=lambda room: self._strategy(room, shape.need)))
        return None

    def _told(self, task: Task) -> Reason | None:
        if task.ready is not None and self._at is not None and task.ready > self._at:
            return waits_until(task.ready)
        array = task.spec.array
        return None if array is None else array_full(array, self._arrays[task.batch])

    def _place(self, task: Task, shape: Shape, room: Room) -> None:
        reserved = self.backfill.take(room, shape.need, task)
        self._turn += 1
        room.turn = self._turn
        self._placed[task.id] = task
        self.placements.append(Placement(task=task.id, node=room.node.id, reserved=reserved))
        if task.spec.array is not None:
            self._arrays[task.batch] += 1
        if task.owner in self._usage.limits:
            self._held[task.owner] = self._held_by(task.owner).plus(held_for(shape.need))

    def _over(self, owner: int, shape: Shape) -> Reason | None:
        limits = self._usage.limits.get(owner)
        return None if limits is None else over_limit(limits, self._held_by(owner), shape.need)

    def _held_by(self, owner: int) -> Held:
        return self._held.get(owner) or self._usage.held.get(owner, Held())

    def shape(self, task: Task) -> Shape:
        """What it asks for, one for all tasks that ask for the same."""
        key = asks(task)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(task, self.rooms)
        return shape

    def word(self, cause: Cause) -> Reason:
        """Why it waits, by what is free at the end of the plan."""
        if cause.reason is not None:
            return cause.reason
        over = None if cause.owner is None else self._over(cause.owner, cause.shape)
        if over is not None:
            return over
        return self.why(cause.shape)

    def why(self, shape: Shape) -> Reason:
        """Why something of that shape does not start now."""
        passing = shape.fitting()
        if passing:
            return would_delay(passing[0].node, self.backfill.kept_for(passing[0]))
        return shape.why(self.rooms)

    def held_back(self, task: Task, shape: Shape) -> Reason | None:
        """What keeps it whatever room there is; None when it only needs room."""
        return self._told(task) or self._over(task.owner, shape)

    def result(self, queue: Queue, told: Mapping[int, Reason]) -> Plan:
        """The plan as it is."""
        waiting = Waiting(queue, self._placed, self._causes)
        reasons = Reasons(told, waiting, self.word)
        return Plan(
            placements=tuple(self.placements),
            reasons=reasons,
            ahead=Ahead(waiting),
            starts=self.backfill.starts,
            tally=reasons.tally,
        )
