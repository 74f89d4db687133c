"""The only writer of task status. `domain.lifecycle.apply` decides, this commits: the row under its version, the
reservation, the attempt and the history in one transaction; then memory, then whoever waits.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kohakuriver.domain.events import Event, Exited, Placed, Requeued, StartFailed
from kohakuriver.domain.lifecycle import apply
from kohakuriver.domain.limits import Limits
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import HOLDING, Status, Task
from kohakuriver.errors import InvalidTransition, MovedOn, NotFound
from kohakuriver.host import cause, records
from kohakuriver.host.board import Board
from kohakuriver.host.cause import Cause
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.commits import Commits
from kohakuriver.host.roster import Member
from kohakuriver.host.waiting import Ends, ended
from kohakuriver.store.holding import within
from kohakuriver.store.models import NodeRow, UserRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.tasks import load_task, task_statements_change
from kohakuriver.store.write import Statement, lock, update

#: how often a change is tried again when somebody else was faster
TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Placements as a change of the store, what follows from it in memory, and the tasks as they are then."""

    statements: list[Statement]
    then: Callable[[], None]
    tasks: list[Task]


class Ledger:
    """Records what happens to tasks."""

    def __init__(
        self,
        *,
        reader: Reader,
        commits: Commits,
        board: Board,
        changes: Changes,
        ends: Ends,
        clock: Clock,
        ids: Ids,
        limits: Mapping[int, Limits],
    ) -> None:
        """`limits` of what owners may hold, of those who have any, as they are at any time."""
        self._reader = reader
        self.commits = commits
        self.board = board
        self.ids = ids
        self.clock = clock
        self._changes = changes
        self._ends = ends
        self._limits = limits
        #: told of every committed change, before and after
        self.followers: list[Callable[[Task, Task], None]] = []

    async def look(self, task: int) -> Task | None:
        """The task as committed, if there is one."""
        return self.board.get(task) or await load_task(self._reader, task)

    async def find(self, task: int) -> Task:
        """The task as committed. Raises NotFound."""
        found = await self.look(task)
        if found is None:
            raise NotFound(f"there is no task {task}", field="task", value=task)
        return found

    async def record(self, task: int, event: Event, by: Cause) -> Task:
        """The task after the event, committed. An event that changes nothing writes nothing.

        Raises NotFound, InvalidTransition, StorageFull. May be called again: the table decides what a second one means.
        """
        for _ in range(TRIES):
            before = await self.find(task)
            now = self.clock.now()
            after = apply(before, event, now)
            if replace(after, version=before.version) == before:
                return before
            reserved = self.back_from_lost(before, after)
            row = records.event(
                self.ids.next(), now, name(event), by, task=task, node=after.node, detail=told(before, after, event)
            )
            statements = [*self.change(before, after, reserved), *records.events([row])]
            if isinstance(event, Requeued):
                statements.append(records.attempt_requeued(before, event.reason, now))
            try:
                await self.commits.write(statements, lambda: self.committed(before, after, reserved))  # noqa: B023
            except MovedOn:
                await asyncio.sleep(0)
                continue
            return after
        raise MovedOn(f"task {task} keeps changing; try again", field="task", value=task)

    async def place(self, member: Member, placements: Sequence[tuple[Task, Reserved]]) -> list[Task]:
        """Assigns the tasks to the node.

        Raises MovedOn when a task or the node changed meanwhile; then nothing was stored, plan anew.
        """
        placing = self.placing(member, placements)
        await self.commits.write(placing.statements, placing.then)
        return placing.tasks

    def placing(self, member: Member, placements: Sequence[tuple[Task, Reserved]]) -> Placing:
        """The tasks' rows, attempts and reservations, for the caller to commit: guarded by the node's allocation and by
        what their owners may hold.
        """
        now = self.clock.now()
        allocation = member.allocation
        statements: list[Statement] = [
            update(
                NodeRow,
                where={"id": member.id, "allocation": allocation, "state": "active"},
                set={"allocation": allocation + 1},
                expect=1,
            )
        ]
        done: list[tuple[Task, Task, Reserved]] = []
        rows = []
        for before, reserved in placements:
            after = apply(before, Placed(node=member.id), now)
            held = replace(reserved, generation=after.generation)
            statements += [*task_statements_change(before, after), records.attempt_placed(after, member.epoch, now)]
            statements += records.reserve(after, held)
            detail = {**told(before, after), "attempt": after.generation}
            row = records.event(
                self.ids.next(), now, "placed", cause.SCHEDULER, task=after.id, node=member.id, detail=detail
            )
            rows.append(row)
            done.append((before, after, held))

        def then() -> None:
            member.allocation = allocation + 1
            for before, after, held in done:
                self.committed(before, after, held)

        owners = {before.owner for before, _ in placements if before.owner in self._limits}
        return Placing(
            statements=[
                *(lock(UserRow, id=owner) for owner in sorted(owners)),
                *statements,
                *(within(owner, self._limits[owner]) for owner in sorted(owners)),
                *records.events(rows),
            ],
            then=then,
            tasks=[after for _, after, _ in done],
        )

    def change(self, before: Task, after: Task, reserved: Reserved | None = None) -> list[Statement]:
        """The task's row under its version, and the end or the return of its reservation."""
        statements = list(task_statements_change(before, after))
        if before.status in HOLDING and after.status not in HOLDING:
            statements.append(records.free(before))
        if reserved is not None:
            statements += records.reserve(after, reserved)
        return statements

    def back_from_lost(self, before: Task, after: Task) -> Reserved | None:
        """What a task holds that was given up and turned out to be alive: its sums, also beyond what the node has.

        Its cards may be somebody else's by now, and stay theirs.
        """
        if before.status is not Status.LOST or after.status not in HOLDING:
            return None
        request = after.spec.request
        return Reserved(
            task=after.id, generation=after.generation, cpu_milli=request.cpu_milli, memory=request.memory or 0
        )

    def committed(self, before: Task, after: Task, reserved: Reserved | None = None) -> None:
        """Takes a committed change into memory and tells who follows."""
        self.board.put(after, reserved)
        if before.status is not after.status or before.wanted is not after.wanted:
            self._changes.publish("task", after.id, after.status)
        if ended(after):
            self._ends.ended(after.id)
        for follower in self.followers:
            follower(before, after)


def name(event: Event) -> str:
    """The event as history calls it: `KillWanted` is `kill_wanted`."""
    text = type(event).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in text).lstrip("_")


def told(before: Task, after: Task, event: Event | None = None) -> dict[str, object]:
    """What history keeps of a change. Of a task that is tried again, the end that is the reason for it."""
    detail: dict[str, object] = {}
    if before.status is not after.status:
        detail |= {"from": before.status.value, "to": after.status.value}
    if before.wanted is not after.wanted:
        detail["wanted"] = after.wanted.value
    end = after.exit if after.exit != before.exit else None
    if after.retried > before.retried and after.spec.retry is not None:
        detail["retry"] = f"{after.retried} of {after.spec.retry.most}"
        end = event.exit if isinstance(event, Exited) else None
    if isinstance(event, Requeued | StartFailed) and after.status is Status.PENDING:
        detail["reason"] = event.reason
    if end is not None:
        detail |= {key: v for key, v in (("code", end.code), ("reason", end.reason)) if v is not None}
    return detail


def tried_again(before: Task, after: Task) -> bool:
    """Whether it went back to the queue for its own end, and not for its node's sake."""
    return after.status is Status.PENDING and after.retried > before.retried


def try_apply(task: Task, event: Event, now: datetime) -> Task | None:
    """The task after the event, or None where the table has no such edge."""
    try:
        return apply(task, event, now)
    except InvalidTransition:
        return None
