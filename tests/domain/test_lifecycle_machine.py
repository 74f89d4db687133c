"""A task among people who change their minds, a scheduler, and a runner whose reports come late, twice and out of turn.

The ledger's rule stands here in miniature: a report counts only for the current generation and only where the table
has an edge. The model beside it knows what really runs.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kohakuriver.domain import events
from kohakuriver.domain import lifecycle as lc
from kohakuriver.domain.retries import CAUSES, REBOOTED, Retry
from kohakuriver.domain.tasks import FINAL, HOLDING, Exit, Kind, Status, Task, TaskSpec, Wanted
from kohakuriver.errors import InvalidTransition

S = Status
START = datetime(2025, 1, 1, tzinfo=UTC)


class TaskMachine(RuleBasedStateMachine):
    """One task. `true` is the phase of each generation's body: None, prepared, running, paused or ended."""

    @initialize(
        kind=st.sampled_from(Kind),
        approval=st.booleans(),
        requeue=st.booleans(),
        retry=st.none() | st.builds(Retry, most=st.integers(1, 3), on=st.just(CAUSES), delay=st.sampled_from([0, 30])),
    )
    def submit(self, kind, approval, requeue, retry):
        status = S.PENDING_APPROVAL if approval else S.PENDING
        self.now = START
        self.task = Task(
            id=1,
            batch=1,
            owner=1,
            spec=TaskSpec(kind=kind, retry=retry, requeue=requeue),
            status=status,
            submitted=START,
        )
        self.true = {}
        self.exits = {}
        self.sent = []
        self.accepted = []
        self.kill_told = False
        self.history = [self.task]

    def change(self, event):
        self.now += timedelta(seconds=1)
        try:
            after = lc.apply(self.task, event, self.now)
        except InvalidTransition:
            return False
        self.check_step(self.task, event, after)
        self.task = after
        self.history.append(after)
        return True

    def check_step(self, before, event, after):
        assert after.version == before.version + 1
        assert after.generation - before.generation == int(isinstance(event, events.Placed))
        assert after.wish >= before.wish
        assert after.wanted is before.wanted or after.wish > before.wish
        self.check_retry(before, event, after)
        if before.final:
            assert before.status is S.LOST
            assert isinstance(event, events.REPORTED)

    def check_retry(self, before, event, after):
        """Only an end is tried again, never one that was wanted, and as often as the policy says."""
        assert 0 <= after.retried - before.retried <= 1
        if after.retried == before.retried:
            return
        assert after.status is S.PENDING
        assert isinstance(event, events.Exited | events.StartFailed | events.Requeued)
        assert self.true[after.generation] == "ended"
        assert before.wanted not in lc.ENDING
        assert after.retried <= after.spec.retry.most
        assert after.ready == (self.now + timedelta(seconds=30) if after.spec.retry.delay else None)

    @property
    def phase(self):
        return self.true.get(self.task.generation)

    def report(self, event):
        """The runner tells of the current attempt; the message arrives now and may arrive again."""
        self.sent.append((self.task.generation, event))
        self.change(event)

    # People

    @rule()
    def approve(self):
        self.change(events.Approved())

    @rule()
    def reject(self):
        self.change(events.Rejected(reason="no"))

    @rule()
    def pause(self):
        self.change(events.PauseWanted())

    @rule()
    def resume(self):
        self.change(events.ResumeWanted())

    @rule()
    def kill(self):
        if self.change(events.KillWanted()):
            self.kill_told = True

    @rule()
    def stop(self):
        self.change(events.StopWanted())

    @rule()
    def want_another_attempt(self):
        self.change(events.RequeueWanted())

    @rule()
    def start_again(self):
        self.change(events.StartWanted())

    @rule()
    def delete(self):
        self.change(events.Deleted())

    @rule()
    def declare_lost(self):
        self.change(events.DeclaredLost(reason="burnt"))

    # The scheduler

    @rule()
    def wait_in_vain(self):
        if self.change(events.NeverSatisfied(reason="task 3 failed")):
            assert (self.task.status, self.task.exit.reason) == (S.KILLED, "task 3 failed")

    @rule()
    def lose_what_it_runs_in(self):
        if self.change(events.Unobtainable(reason="no such image")):
            assert (self.task.status, self.task.exit.reason) == (S.FAILED, "no such image")

    @rule(node=st.integers(1, 3))
    def place(self, node):
        if self.change(events.Placed(node=node)):
            self.true[self.task.generation] = None

    @precondition(lambda self: self.task.status in HOLDING)
    @rule()
    def requeue_after_fencing(self):
        self.true[self.task.generation] = "ended"
        self.change(events.Requeued(reason="policy"))

    # The runner: what is true happens first, then it is told

    @precondition(lambda self: self.task.generation and self.phase is None)
    @rule(how=st.sampled_from(["accept", "not now", "never", "ended first"]))
    def answer(self, how):
        if how == "accept":
            self.true[self.task.generation] = "prepared"
            self.report(events.Accepted())
            return
        self.true[self.task.generation] = "ended"
        if how == "not now":
            self.report(events.RefusedForNow(reason="busy"))
        elif how == "never":
            self.report(events.RefusedForGood(reason="no image"))
        elif self.task.wanted in lc.ENDING:
            self.report(events.NeverStarted())

    @precondition(lambda self: self.phase == "prepared")
    @rule(works=st.booleans())
    def start(self, works):
        self.true[self.task.generation] = "running" if works else "ended"
        self.report(events.Started() if works else events.StartFailed(reason="no program"))

    @precondition(lambda self: self.phase == "running" and self.task.wanted is Wanted.PAUSED)
    @rule()
    def freeze(self):
        self.true[self.task.generation] = "paused"
        self.report(events.Paused())

    @precondition(lambda self: self.phase == "paused" and self.task.wanted is Wanted.RUN)
    @rule()
    def thaw(self):
        self.true[self.task.generation] = "running"
        self.report(events.Resumed())

    @precondition(lambda self: self.phase in {"running", "paused"})
    @rule()
    def reach_limit(self):
        self.report(events.LimitReached())

    @precondition(lambda self: self.phase in {"running", "paused"})
    @rule(
        code=st.sampled_from([0, 1, 137, None]),
        oom=st.sampled_from([None, True]),
        signalled=st.sampled_from([None, S.KILLED, S.STOPPED, S.TIMED_OUT]),
    )
    def exit(self, code, oom, signalled):
        told = Exit(code=code, oom=oom, reason=None if code is not None else REBOOTED)
        self.true[self.task.generation] = "ended"
        self.exits[self.task.generation] = told
        self.report(events.Exited(exit=told, signalled=signalled))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 1000))
    def deliver_again(self, which):
        """A report comes twice, or late. The reader drops what is not of this generation."""
        generation, event = self.sent[which % len(self.sent)]
        before = self.task
        if generation != before.generation:
            return
        if isinstance(event, events.Exited) or before.status in FINAL - {S.LOST}:
            self.change(event)
            assert before.status is S.LOST or not before.final or self.task == before

    # What must always hold

    @invariant()
    def wishes_to_end_are_kept(self):
        task = self.task
        if task.wanted in lc.ENDING:
            assert task.status in FINAL | {S.STOPPING, S.STOPPED}
        if self.kill_told:
            assert task.wanted is Wanted.KILLED

    @invariant()
    def a_command_is_never_stopped(self):
        if self.task.spec.kind is Kind.COMMAND:
            assert self.task.status not in {S.STOPPED, S.REMOVED}

    @invariant()
    def times_and_exits_belong_to_the_status(self):
        task = self.task
        assert (task.finished is not None) == (task.final or task.status is S.STOPPED)
        if task.status is S.RUNNING:
            assert task.started is not None
        if task.exit is not None and task.exit.code is not None:
            assert task.exit == self.exits[task.generation]
        if not (task.final or task.status is S.STOPPED):
            assert task.exit is None

    @invariant()
    def what_holds_has_a_node_and_an_attempt(self):
        if self.task.status in HOLDING:
            assert self.task.node is not None
            assert self.task.generation > 0

    @invariant()
    def a_vps_never_changes_its_node(self):
        if self.task.spec.kind is Kind.VPS:
            assert len({step.node for step in self.history} - {None}) <= 1

    @invariant()
    def nothing_runs_twice(self):
        alive = [number for number, phase in self.true.items() if phase in {"prepared", "running", "paused"}]
        assert alive in ([], [self.task.generation])

    @invariant()
    def versions_tell_every_change(self):
        assert [step.version for step in self.history] == list(range(len(self.history)))
        assert replace(self.task, version=0) != self.task or self.task.version == 0


TestTaskMachine = TaskMachine.TestCase
TestTaskMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
