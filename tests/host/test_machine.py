"""A real host on a real store among people who change their minds and runners that lose links, words and journals.

The runners here keep to contracts.md §1; what really starts and ends on them is written down beside the host, which never
reads it. Checked after every step and at the end: reliability-security.md §3, I1 to I7 (I3 except `lost`).
"""

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kohakuriver.domain.access import Role
from kohakuriver.domain.attempts import parse_attempt
from kohakuriver.domain.tasks import HOLDING, Status
from kohakuriver.errors import Conflict, KohakuRiverError
from kohakuriver.host import control
from kohakuriver.store.models import EventRow, ReservationRow, TaskRow
from kohakuriver.testing.clock import FakeClock
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import Peer, add_node
from kohakuriver.wire import link

from .kit import agree, stored, submit
from .machines import ENDED, Machine

CORES = 4
NAMES = ("node1", "node2")


class Cluster(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.known = set()
        self.machines = [Machine(name) for name in NAMES]
        self.final = {}
        self.given_up = set()
        #: how often another attempt of a task was wanted
        self.again = Counter()

    def run(self, work):
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self):
        self.run(self.open(first=True))

    async def open(self, *, first=False):
        self.stack = AsyncExitStack()
        self.host = await self.stack.enter_async_context(opened_host(Path(self.folder.name), clock=self.clock))
        if first:
            self.ann = await add_account(self.host, "ann", Role.OPERATOR)
        for machine in self.machines:
            machine.peer = (
                await add_node(self.host, machine.name)
                if first
                else Peer(self.host, self.host.roster.named(machine.name))
            )
        self.host.ledger.followers.append(self.follow)

    def follow(self, before, after):
        assert not before.final or before.status is Status.LOST
        assert after.generation - before.generation == int(after.status is Status.ASSIGNED is not before.status)
        assert after.wish >= before.wish
        if after.status is Status.LOST:
            self.given_up.add(after.id)

    async def turns(self, count=30):
        for _ in range(count):
            await asyncio.sleep(0)

    # People

    @rule(
        copies=st.integers(1, 3),
        cores=st.integers(1, CORES),
        where=st.sampled_from([[], ["node1"], ["node2"]]),
        retries=st.integers(0, 2),
    )
    def submit(self, copies, cores, where, retries):
        fields = {"copies": copies, "cores": cores, "targets": where, "retries": retries}
        self.known.update(self.run(submit(self.host, self.ann, **fields)))

    @rule(last=st.integers(0, 3), most=st.integers(1, 2), retries=st.integers(0, 1))
    def submit_array(self, last, most, retries):
        fields = {"array": f"0-{last}%{most}", "retries": retries}
        self.known.update(self.run(submit(self.host, self.ann, **fields)))

    @precondition(lambda self: self.known)
    @rule(
        data=st.data(),
        what=st.sampled_from([control.kill, control.kill, control.pause, control.resume, control.requeue, "lost"]),
    )
    def want(self, data, what):
        ref = str(data.draw(st.sampled_from(sorted(self.known))))
        try:
            if what == "lost":
                self.run(control.declare_lost(self.host, self.ann, ref, "given up"))
            else:
                self.run(what(self.host, self.ann, ref))
                self.again[int(ref)] += what is control.requeue
        except Conflict:
            pass

    @rule(seconds=st.sampled_from([0, 2, 6]))
    def tick(self, seconds):
        async def work():
            self.clock.advance(seconds)
            for machine in self.machines:
                if machine.linked:
                    machine.peer.pipe.feed(link.Heartbeat())
            await self.turns()
            await self.host.scheduler.tick()
            self.host.dispatch.tick()
            await self.turns()

        self.run(work())

    # Machines

    @rule(
        which=st.integers(0, 1),
        refuse=st.sampled_from([None] * 6 + ["refused_for_now", "refused_for_good"]),
        most=st.integers(1, 9),
    )
    def listen(self, which, refuse, most):
        """The node takes some of what the host said."""
        self.run(self.turns())
        self.hear(self.machines[which], most, refuse=refuse)

    def hear(self, machine, most=10**6, *, refuse=None):
        if not machine.linked:
            return
        said = machine.peer.pipe.said[machine.taken : machine.taken + most]
        machine.taken += len(said)
        for message in said:
            machine.take(message, refuse=refuse)

    @rule(which=st.integers(0, 1), code=st.integers(0, 3), data=st.data())
    def happen(self, which, code, data):
        """Something happens to one of its bodies, whether or not anybody hears of it."""
        machine = self.machines[which]
        live = sorted(attempt for attempt, body in machine.journal.items() if body.phase not in ENDED)
        if live:
            machine.step(data.draw(st.sampled_from(live)), code)

    @rule(which=st.integers(0, 1), most=st.integers(1, 9), twice=st.booleans())
    def speak(self, which, most, twice):
        """The node sends the beginning of its outbox, perhaps twice, and perhaps what it sent before."""
        machine = self.machines[which]
        reports = machine.outbox[:most]
        if machine.linked and reports:
            self.run(machine.peer.send(*reports, *(reports if twice else [])))
            if twice:
                self.run(machine.peer.send(*reversed(reports)))

    @rule(which=st.integers(0, 1), unheard=st.integers(0, 5))
    def drop(self, which, unheard):
        """The link breaks; some reports may have been on their way."""
        machine = self.machines[which]
        if machine.linked:
            for report in machine.outbox[:unheard]:
                machine.peer.pipe.feed(report)
            self.run(machine.peer.drop())

    @rule(which=st.integers(0, 1))
    def reconnect(self, which):
        """A new session, also while the old one still stands."""
        self.run(self.link_up(self.machines[which]))

    async def link_up(self, machine):
        peer = machine.peer
        peer.epoch = machine.epoch
        held = [
            link.Held(attempt=attempt, phase=body.phase, wish=body.revision, wanted=body.wanted)
            for attempt, body in machine.journal.items()
        ]
        pipe = await peer.connect(held)
        machine.taken = 0
        acknowledged = pipe.of(link.Welcome)[0].acknowledged
        machine.outbox = [report for report in machine.outbox if report.seq > acknowledged]
        await self.turns()

    @rule(which=st.integers(0, 1))
    def wipe(self, which):
        """The journal is lost with all that it knew; so are the bodies, for the machine was made anew."""
        machine = self.machines[which]
        if machine.linked:
            self.run(machine.peer.drop())
        machine.epoch, machine.seq, machine.journal, machine.outbox = machine.epoch + 1, 0, {}, []

    @rule()
    def restart(self):
        """The host stops and starts again."""

        async def work():
            await self.stack.aclose()
            await self.open()

        self.run(work())

    # What always holds

    @invariant()
    def promises(self):
        if self.known:
            self.run(self.check())

    async def check(self):
        host = self.host
        await agree(host)
        rows = {row["id"]: row for row in await host.store.reader.of(TaskRow).all().values()}
        assert self.known <= set(rows)  # I1
        for machine in self.machines:
            assert all(count == 1 for count in machine.starts.values())  # I2
            await self.check_room(machine)
        self.check_numbers()
        for task, row in rows.items():
            status = Status(row["status"])
            before = self.final.get(task)
            assert before in {None, Status.LOST, status}  # I3
            if status.value not in {"pending", "assigned", "starting", "running", "paused", "stopping"}:
                self.final[task] = status
            else:
                self.final.pop(task, None)
            if row["exit_code"] is not None:  # I6
                attempt = f"{task}.{row['generation']}"
                assert row["exit_code"] in [
                    machine.exits[attempt] for machine in self.machines if attempt in machine.exits
                ]
        await self.check_history(rows)

    def check_numbers(self):
        """No task runs twice at once, whatever attempt; no array holds more than it allows."""
        bodies = [(a, body) for machine in self.machines for a, body in machine.journal.items()]
        alive = Counter(parse_attempt(attempt)[0] for attempt, body in bodies if body.phase in {"running", "paused"})
        assert all(count == 1 for count in alive.values()), alive
        holding = [task for task in self.host.board.all() if task.status in HOLDING and task.id not in self.given_up]
        for batch, count in Counter(task.batch for task in holding).items():
            array = next(task.spec.array for task in holding if task.batch == batch)
            assert array is None or array.most is None or count <= array.most

    async def check_room(self, machine):
        """I5: never more than the node has; what was given up and lives counts beyond it."""
        held = await self.host.store.reader.of(ReservationRow).filter(node_id=machine.peer.member.id).values()
        ours = sum(row["cpu_milli"] for row in held if row["task_id"] not in self.given_up)
        assert ours <= CORES * 1000

    async def check_history(self, rows):
        """I4 and I7: the history of each task is a chain from its submission to where it stands."""
        stands = dict.fromkeys(rows, "pending")
        for event in await self.host.store.reader.of(EventRow).filter(task__isnull=False).order_by("id").values():
            detail = msgspec.json.decode(event["detail"])
            if "to" in detail:
                assert detail["from"] == stands[event["task"]]
                stands[event["task"]] = detail["to"]
        assert stands == {task: row["status"] for task, row in rows.items()}

    # And at last everything is true

    def teardown(self):
        try:
            if hasattr(self, "host"):
                self.run(self.settle())
                self.run(self.check())
        finally:
            if hasattr(self, "stack"):
                self.run(self.stack.aclose())
            self.loop.close()
            self.folder.cleanup()

    async def settle(self):
        """Links hold, nobody wants anything new, bodies end: then every task does, once, with its own exit code."""
        for machine in self.machines:
            await self.link_up(machine)
        for task in list(self.host.board.all()):
            try:
                await control.resume(self.host, self.ann, str(task.id))
            except KohakuRiverError:
                continue
        for _ in range(200):
            await self.round()
            if not list(self.host.board.all()) and not any(machine.outbox for machine in self.machines):
                break
        assert list(self.host.board.all()) == []
        for task in self.known:
            final = await stored(self.host, task)
            runs = [a for machine in self.machines for a in machine.starts if parse_attempt(a)[0] == task]
            assert len(runs) <= 1 + final.retried + self.again[task], (runs, final, await self.story(task))
            if final.status in {Status.COMPLETED, Status.FAILED} and final.exit.code is not None:
                assert final.attempt in runs
            failed = final.status is Status.FAILED and final.exit.code and final.wanted == "run"
            if failed and final.spec.retry and task not in self.given_up:
                assert final.retried == final.spec.retry.most
        assert await self.host.store.reader.of(ReservationRow).all().count() == 0

    async def story(self, task):
        rows = (
            await self.host.store.reader.of(EventRow).filter(task=task).order_by("id").values("what", "actor", "detail")
        )
        return [(row["what"], row["actor"], row["detail"]) for row in rows]

    async def round(self):
        self.clock.advance(6)
        for machine in self.machines:
            machine.peer.pipe.feed(link.Heartbeat())
        await self.turns()
        await self.host.scheduler.tick()
        self.host.dispatch.tick()
        await self.turns()
        for machine in self.machines:
            self.hear(machine)
            for attempt in list(machine.journal):
                machine.step(attempt, 0)
            if machine.outbox:
                await machine.peer.send(*machine.outbox)
            await self.turns()
            self.hear(machine)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
