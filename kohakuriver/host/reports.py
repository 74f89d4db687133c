"""Reports of runners, a batch at a time: folded into one change a task, committed with the acknowledged number.

A report counts once, by (node, epoch, seq). One of another generation, of a task that is not this node's, or one that
no longer applies is stored, acknowledged and changes nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kohakuriver.domain import events, tasks
from kohakuriver.domain.attempts import attempt_or_none
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import HOLDING, Status, Task
from kohakuriver.errors import MovedOn
from kohakuriver.host import cause, records
from kohakuriver.host.ledger import Ledger, name, told, tried_again, try_apply
from kohakuriver.host.roster import Member
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import ConstraintFailed, Statement, update
from kohakuriver.wire.link import Report

REPORTS = "reports"
NO_RECORD = "the node has no record of this attempt"
NO_WISH = "it was ended before it started, by a wish that is not known here any more"
SIGNALLED = {status.value: status for status in (Status.KILLED, Status.STOPPED, Status.TIMED_OUT)}
#: exit codes beyond this are nonsense from a broken runner
MOST_EXIT = 2**32
TRIES = 20


@dataclass(kw_only=True)
class Fold:
    """One task over a batch: where it stood, where it stands, and what its attempt's row becomes."""

    before: Task
    after: Task
    attempt: dict[str, object] = field(default_factory=dict)
    outputs: list[Statement] = field(default_factory=list)


@dataclass(kw_only=True)
class Batch:
    """What a batch of reports comes to."""

    folds: dict[int, Fold] = field(default_factory=dict)
    events: list[dict[str, object]] = field(default_factory=list)
    kept: list[dict[str, object]] = field(default_factory=list)


Refill = Callable[[Member, Collection[int]], list[tuple[Task, Reserved]]]
Withdraw = Callable[[Collection[int]], None]


class Reports:
    """Takes what runners report to the ledger."""

    def __init__(self, ledger: Ledger, refill: Refill, withdraw: Withdraw, complete: set[str]) -> None:
        """`refill` says what takes the place of tasks that end, `withdraw` hears of what did not after all; `complete`
        gets the attempts whose exit was committed with all of their output.
        """
        self._ledger = ledger
        self._refill = refill
        self._withdraw = withdraw
        self._complete = complete

    async def take(self, member: Member, epoch: int, reports: Sequence[Report]) -> int:
        """Commits the reports and returns the number up to which they are acknowledged. `epoch` is the life of the
        journal that they come from; raises MovedOn when it is no longer the node's.

        Raises StorageFull or StoreError; then nothing was committed and the same reports may be given again.
        """
        keep = refill = True
        for _ in range(TRIES):
            await asyncio.sleep(0)
            if member.epoch != epoch:
                break
            fresh = {report.seq: report for report in reports if report.seq > member.acknowledged}
            if not fresh:
                return member.acknowledged
            try:
                await self._commit(member, epoch, [fresh[seq] for seq in sorted(fresh)], keep=keep, refill=refill)
            except MovedOn:
                refill = False
            except ConstraintFailed as error:
                if refill:
                    refill = False
                    continue
                if error.table != REPORTS or not keep:
                    raise
                # this journal is an older copy of itself that gives a number out twice
                keep = False
        raise MovedOn(f"the tasks of node {member.name} keep changing")

    async def _commit(self, member: Member, epoch: int, reports: Sequence[Report], *, keep: bool, refill: bool) -> None:
        ledger, now = self._ledger, self._ledger.clock.now()
        batch = Batch()
        for report in reports:
            await self._fold(batch, member, epoch, report, now)
        if not keep:
            batch.kept.clear()
        last = reports[-1].seq
        statements = self._statements(batch, member, epoch, last)
        reserved = {task: ledger.back_from_lost(fold.before, fold.after) for task, fold in batch.folds.items()}
        for task, held in reserved.items():
            if held is not None:
                statements += records.reserve(batch.folds[task].after, held)
        chosen = self._chosen(member, batch) if refill else []
        placing = ledger.placing(member, chosen) if chosen else None

        def then() -> None:
            member.acknowledged = last
            for task, fold in batch.folds.items():
                if fold.after is not fold.before:
                    ledger.committed(fold.before, fold.after, reserved[task])
                if fold.outputs:
                    self._complete.add(fold.before.attempt)
            if placing is not None:
                placing.then()

        def otherwise() -> None:
            self._withdraw([task.id for task, _ in chosen])

        more = [] if placing is None else placing.statements
        await ledger.commits.write([*statements, *more], then, otherwise)

    def _chosen(self, member: Member, batch: Batch) -> list[tuple[Task, Reserved]]:
        """What takes the place of the tasks that end in this batch; nothing where the node refuses work."""
        folds = batch.folds.values()
        if any(fold.after.status is Status.PENDING and not tried_again(fold.before, fold.after) for fold in folds):
            return []
        freed = {
            task
            for task, fold in batch.folds.items()
            if fold.before.status in HOLDING and fold.after.status not in HOLDING
        }
        pairs = self._refill(member, freed) if freed else []
        self._withdraw([task.id for task, _ in pairs if task.id in batch.folds])
        return [(task, reserved) for task, reserved in pairs if task.id not in batch.folds]

    def _statements(self, batch: Batch, member: Member, epoch: int, last: int) -> list[Statement]:
        statements: list[Statement] = [
            update(
                NodeRow,
                where={"id": member.id, "epoch": epoch, "acknowledged": member.acknowledged},
                set={"acknowledged": last},
                expect=1,
            )
        ]
        for fold in batch.folds.values():
            if fold.after is not fold.before:
                statements += self._ledger.change(fold.before, fold.after)
            if fold.attempt:
                statements.append(records.attempt_change(fold.before.attempt, fold.attempt))
            statements += fold.outputs
        return [*statements, *records.events(batch.events), *records.reports(batch.kept)]

    async def _fold(self, batch: Batch, member: Member, epoch: int, report: Report, now: datetime) -> None:
        fold = await self._fold_of(batch, member, report)
        event = None if fold is None else event_of(report, fold.after)
        after = None if fold is None or event is None else try_apply(fold.after, event, now)
        if fold is None or event is None or after is None:
            batch.kept.append(records.report_kept(member.id, epoch, report, now))
            if report.what == "recovered" and fold is None:
                batch.events.append(self._recovered(member, report, now))
            return
        changed = after.status is not fold.after.status
        row = records.event(
            self._ledger.ids.next(),
            now,
            name(event),
            cause.node(member.name),
            task=after.id,
            node=member.id,
            detail=told(fold.after, after, event),
        )
        if changed or report.what == "exited":
            batch.events.append(row)
        fold.after = after
        fold.attempt |= records.attempt_reported(report, now)
        if report.what == "exited":
            fold.outputs = records.outputs(report)

    async def _fold_of(self, batch: Batch, member: Member, report: Report) -> Fold | None:
        """The task that the report speaks of, if it is this node's and of this generation."""
        attempt = attempt_or_none(report.attempt)
        if attempt is None:
            return None
        task, generation = attempt
        fold = batch.folds.get(task)
        if fold is None:
            found = await self._ledger.look(task)
            if found is None:
                return None
            fold = Fold(before=found, after=found)
        if fold.after.node != member.id or fold.after.generation != generation:
            if fold.after.generation == generation:
                # this very attempt is another node's, and never was this one's
                member.conduct.fault(self._ledger.clock.monotonic())
            return None
        batch.folds[task] = fold
        return fold

    def _recovered(self, member: Member, report: Report, now: datetime) -> dict[str, object]:
        return records.event(
            self._ledger.ids.next(),
            now,
            "recovered",
            cause.node(member.name),
            node=member.id,
            detail={"attempt": report.attempt[:80], "found": records.found(report)},
        )


def event_of(report: Report, task: Task) -> events.Event | None:
    """The report as an event of the table; None when it says nothing about the task's state."""
    reason = records.sentence(report.reason) or ""
    match report.what:
        case "accepted":
            return events.Accepted()
        case "refused_for_now":
            return events.RefusedForNow(reason=reason)
        case "refused_for_good":
            return events.RefusedForGood(reason=reason)
        case "started":
            return events.Started()
        case "start_failed":
            return events.StartFailed(reason=reason)
        case "never_started" if task.status is Status.STARTING:
            return events.StartFailed(reason=reason or NO_WISH)
        case "never_started":
            return events.NeverStarted()
        case "paused":
            return events.Paused()
        case "resumed":
            return events.Resumed()
        case "limit_reached":
            return events.LimitReached()
        case "exited":
            return _exited(report)
        case "unknown":
            return _unknown(task)
        case _:
            return None


def _exited(report: Report) -> events.Exited:
    told = report.exit
    code = None if told is None or told.code is None or abs(told.code) > MOST_EXIT else told.code
    reason = (None if told is None else told.reason) or report.reason
    return events.Exited(
        exit=tasks.Exit(
            code=code,
            signal=None if told is None else told.signal,
            oom=None if told is None else told.oom,
            reason=records.sentence(reason),
        ),
        signalled=SIGNALLED.get(report.signalled or ""),
    )


def _unknown(task: Task) -> events.Event | None:
    """A node that has no record of an attempt can never start it any more; what ran there before is not known."""
    if task.status is Status.STOPPING and task.started is None:
        return events.NeverStarted()
    if task.status is Status.ASSIGNED:
        return None
    return events.DeclaredLost(reason=NO_RECORD)
