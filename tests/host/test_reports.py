"""What reports do to tasks: each counts once, only for its own generation and node, and a final status is final."""

import asyncio
from dataclasses import replace

import pytest

from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import Status, Wanted
from kohakuriver.errors import MovedOn, StorageFull, StoreError
from kohakuriver.host import control
from kohakuriver.store.models import NodeRow, OutputRow, ReportRow
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import agree, attempt_row, exited, held_rows, placed, running, stored, submit, told


async def kept(host):
    return await host.store.reader.of(ReportRow).all().order_by("seq").values("seq", "what", "applied", "epoch")


async def test_a_task_is_walked_from_submit_to_its_end(host, ann, node, clock):
    task = await placed(host, ann)
    assert (task.status, task.generation, task.node) == (Status.ASSIGNED, 1, node.member.id)
    assert len(await held_rows(host, task.id)) == 1
    await node.tell("accepted", task.attempt)
    await node.tell("started", task.attempt)
    clock.advance(5)
    usage = link.Usage(cpu_seconds=1.5, memory_peak=2**20, running_seconds=5.0)
    data = link.Sealed(size=3, head=3, data=b"out")
    await node.tell("exited", task.attempt, **exited(7, usage=usage, stdout=data))
    final = await stored(host, task.id)
    assert (final.status, final.exit.code) == (Status.FAILED, 7)
    assert (final.finished - final.started).total_seconds() == 5
    row = await attempt_row(host, task.attempt)
    assert (row["state"], row["exit_code"], row["cpu_seconds"], row["memory_peak"]) == ("exited", 7, 1.5, 2**20)
    assert await held_rows(host, task.id) == []
    assert await told(host, task.id) == ["submitted", "placed", "accepted", "started", "exited"]
    await node.pipe.heard(link.Forget)
    await agree(host)


async def test_a_report_that_comes_twice_counts_once_and_is_acknowledged_twice(host, ann, node):
    task = await placed(host, ann)
    report = node.report("accepted", task.attempt)
    await node.send(report, report)
    await node.send(report)
    await node.pipe.until(lambda: len(node.pipe.of(link.Ack)) >= 2)
    assert {ack.seq for ack in node.pipe.of(link.Ack)} == {1}
    assert host.board.get(task.id).status is Status.STARTING
    assert (await told(host, task.id)).count("accepted") == 1
    assert await kept(host) == []


async def test_one_that_changes_nothing_and_comes_twice_in_one_batch_is_kept_once(host, node):
    report = node.report("unknown", "7.1")
    await node.send(report, report, node.report("accepted", "no attempt at all"))
    assert [row["seq"] for row in await kept(host)] == [1, 2]


async def test_reports_out_of_order_in_one_batch_are_taken_in_order(host, ann, node):
    task = await placed(host, ann)
    accepted, started = node.report("accepted", task.attempt), node.report("started", task.attempt)
    acknowledged = await host.reports.take(node.member, 1, [started, accepted])
    assert acknowledged == 2
    assert host.board.get(task.id).status is Status.RUNNING


async def test_what_ends_and_what_takes_its_place_are_one_commit(host, ann, node, monkeypatch):
    first, second = await submit(host, ann, cores=4, copies=2)
    await host.scheduler.tick()
    assert (host.board.get(first).status, host.board.get(second).status) == (Status.ASSIGNED, Status.PENDING)
    writes = []
    write = host.store.writer.write

    async def counted(statements):
        writes.append(statements)
        return await write(statements)

    monkeypatch.setattr(host.store.writer, "write", counted)
    await node.tell("accepted", f"{first}.1")
    await node.tell("exited", f"{first}.1", **exited())
    assert len(writes) == 2
    assert host.board.get(second).status is Status.ASSIGNED
    assert await stored(host, second) == host.board.get(second)


async def test_an_end_is_committed_also_when_what_would_take_its_place_moved_on(host, ann, node, monkeypatch):
    first, second = await submit(host, ann, cores=4, copies=2)
    await host.scheduler.tick()
    stale = replace(host.board.get(second), version=99)
    monkeypatch.setattr(host.reports, "_refill", lambda member, freed: [(stale, Reserved(task=second, generation=1))])
    await node.tell("accepted", f"{first}.1")
    await node.tell("exited", f"{first}.1", **exited())
    assert (await stored(host, first)).status is Status.COMPLETED


async def test_a_node_that_refuses_work_gets_nothing_in_its_place(host, ann, node):
    first, second = await submit(host, ann, cores=4, copies=2)
    await host.scheduler.tick()
    await node.tell("refused_for_now", f"{first}.1", reason="full")
    assert {host.board.get(task).status for task in (first, second)} == {Status.PENDING}


@pytest.mark.parametrize("attempt", ["{task}.2", "{task}.0", "1.1", f"{2**63}.1", "../../x", "\0", "", "7." + "9" * 40])
async def test_a_report_of_another_generation_or_of_no_attempt_is_stored_acknowledged_and_changes_nothing(
    host, ann, node, attempt
):
    task = await running(host, ann, node)
    before = host.board.get(task.id)
    await node.tell("exited", attempt.format(task=task.id), **exited())
    assert host.board.get(task.id) == before == await stored(host, task.id)
    (row,) = await kept(host)
    assert (row["seq"], row["what"], bool(row["applied"])) == (node.seq, "exited", False)


async def test_another_node_cannot_speak_for_a_task(host, ann, node):
    task = await running(host, ann, node)
    other = await add_node(host, "other")
    await other.connect()
    await other.tell("exited", task.attempt, **exited(0, stdout=link.Sealed(size=3, head=3, data=b"lie")))
    assert host.board.get(task.id).status is Status.RUNNING
    assert await host.store.reader.of(OutputRow).all().count() == 0


async def test_another_nodes_exited_attempt_is_never_fetched_from_a_liar(host, ann, node):
    task = await running(host, ann, node)
    big = link.Sealed(size=10**6, head=5 * 10**5, tail=5 * 10**5)
    await node.tell("exited", task.attempt, **exited(0, stdout=big))
    liar = await add_node(host, "liar")
    await liar.connect(held=[link.Held(attempt=task.attempt, phase="exited")])
    await liar.tell("exited", task.attempt, **exited(0, stdout=big))
    await liar.tell("exited", "../../../tmp/x", **exited(0, stdout=big))
    await node.pipe.heard(link.Dial)
    assert liar.pipe.of(link.Dial) == liar.pipe.of(link.Forget) == []


@pytest.mark.parametrize("end", ["completed", "failed", "killed"])
async def test_final_never_changes(host, ann, node, end):
    task = await running(host, ann, node)
    if end == "killed":
        await control.kill(host, ann, str(task.id))
    signalled = "killed" if end == "killed" else None
    await node.tell("exited", task.attempt, **exited(1 if end == "failed" else 0, signalled=signalled))
    final = await stored(host, task.id)
    assert final.status == end
    for what in ("accepted", "started", "paused", "resumed", "limit_reached", "refused_for_now", "unknown"):
        await node.tell(what, task.attempt)
    await node.tell("exited", task.attempt, **exited(9))
    assert await stored(host, task.id) == final
    assert (await attempt_row(host, task.attempt))["exit_code"] == final.exit.code


async def test_lost_is_left_by_a_true_report_of_the_same_generation_alone(host, ann, boss, node):
    task = await running(host, ann, node)
    await control.declare_lost(host, boss, str(task.id), "the machine burnt down")
    assert await held_rows(host, task.id) == []
    await node.tell("exited", f"{task.id}.9", **exited(0))
    other = await add_node(host, "other")
    await other.connect()
    await other.tell("exited", task.attempt, **exited(0))
    assert (await stored(host, task.id)).status is Status.LOST
    await node.tell("exited", task.attempt, **exited(3))
    final = await stored(host, task.id)
    assert (final.status, final.exit.code) == (Status.FAILED, 3)
    await agree(host)


async def test_what_was_lost_and_lives_holds_its_share_again(host, ann, boss, node):
    task = await running(host, ann, node, cores=2)
    await control.declare_lost(host, boss, str(task.id), "silent")
    await node.tell("paused", task.attempt)
    back = host.board.get(task.id)
    assert (back.status, back.generation) == (Status.PAUSED, 1)
    assert host.board.reserved(node.member.id)[task.id].cpu_milli == 2000
    await agree(host)
    await node.tell("exited", task.attempt, **exited())
    assert host.board.reserved(node.member.id) == {}
    await agree(host)


async def test_what_was_lost_and_has_nothing_left_to_report_is_taken_back_by_the_inventory(host, ann, boss, node):
    task = await running(host, ann, node)
    frozen = await running(host, ann, node)
    young = await placed(host, ann)
    await node.tell("accepted", young.attempt)
    gone = await running(host, ann, node)
    await node.drop()
    for one in (task, frozen, young, gone):
        await control.declare_lost(host, boss, str(one.id), "silent")
    held = [
        link.Held(attempt=task.attempt, phase="running"),
        link.Held(attempt=frozen.attempt, phase="paused"),
        link.Held(attempt=young.attempt, phase="accepted"),
        link.Held(attempt=gone.attempt, phase="exited"),
        link.Held(attempt=f"{gone.id}.7", phase="running"),
        link.Held(attempt="nonsense", phase="running"),
        link.Held(attempt=f"{2**63}.1", phase="running"),
    ]
    pipe = await node.connect(held)
    found = {one.id: (await stored(host, one.id)).status for one in (task, frozen, young, gone)}
    assert found == {
        task.id: Status.RUNNING, frozen.id: Status.PAUSED, young.id: Status.STARTING, gone.id: Status.LOST,
    }  # fmt: skip
    wishes = {wish.attempt for page in pipe.of(link.WantedSet) for wish in page.wishes}
    assert wishes == {task.attempt, frozen.attempt, young.attempt}
    await agree(host)


async def test_a_reservation_lives_until_the_exit_and_silence_frees_nothing(host, ann, node, clock):
    task = await running(host, ann, node, cores=4)
    (waiting,) = await submit(host, ann, cores=4)
    await node.drop()
    clock.advance(86_400)
    await host.scheduler.tick()
    assert host.board.get(task.id).status is Status.RUNNING
    assert len(await held_rows(host, task.id)) == 1
    await node.connect(held=[link.Held(attempt=task.attempt, phase="running")])
    await host.scheduler.tick()
    assert host.board.get(waiting).status is Status.PENDING
    await node.tell("exited", task.attempt, **exited())
    await host.scheduler.tick()
    assert host.board.get(waiting).status is Status.ASSIGNED


@pytest.mark.parametrize("what", ["refused_for_good", "start_failed"])
async def test_a_refusal_frees_the_reservation_and_says_why(host, ann, node, what):
    task = await placed(host, ann)
    if what == "start_failed":
        await node.tell("accepted", task.attempt)
    await node.tell(what, task.attempt, reason="no such\0program" + "x" * 5000)
    final = await stored(host, task.id)
    assert final.status is Status.FAILED
    assert final.exit.reason.startswith("no such\N{REPLACEMENT CHARACTER}program")
    assert len(final.exit.reason) == 1000
    assert await held_rows(host, task.id) == []
    await node.pipe.heard(link.Forget)


async def test_the_generation_rises_only_with_assigned(host, ann, node, clock):
    task = await placed(host, ann)
    await node.tell("refused_for_now", task.attempt, reason="busy")
    waiting = host.board.get(task.id)
    assert (waiting.status, waiting.generation) == (Status.PENDING, 1)
    clock.advance(2)
    await host.scheduler.tick()
    again = host.board.get(task.id)
    assert (again.status, again.generation) == (Status.ASSIGNED, 2)
    assert [row["generation"] for row in await held_rows(host, task.id)] == [2]
    await node.tell("accepted", f"{task.id}.1")
    assert host.board.get(task.id).status is Status.ASSIGNED
    await node.tell("accepted", again.attempt)
    assert host.board.get(task.id).status is Status.STARTING


async def test_unknown_means_lost_for_what_was_accepted(host, ann, node):
    task = await placed(host, ann)
    await node.tell("accepted", task.attempt)
    await node.tell("unknown", task.attempt)
    final = await stored(host, task.id)
    assert (final.status, final.exit.reason) == (Status.LOST, "the node has no record of this attempt")
    await agree(host)


async def test_unknown_means_never_started_for_what_was_to_end_before_it_ran(host, ann, node):
    task = await placed(host, ann)
    await control.kill(host, ann, str(task.id))
    await node.tell("unknown", task.attempt)
    assert (await stored(host, task.id)).status is Status.KILLED


async def test_unknown_says_nothing_of_what_was_never_accepted(host, ann, node):
    task = await placed(host, ann)
    await node.tell("unknown", task.attempt)
    assert host.board.get(task.id) == task


async def test_a_recovered_body_is_kept_for_those_who_look_and_touches_no_task(host, ann, node):
    task = await running(host, ann, node)
    found = {"instance": "9.9", "backend": "process", "phase": "running", "x" * 500: "y" * 500}
    await node.tell("recovered", "9.9", found=found)
    assert host.board.get(task.id) == task
    assert [row["what"] for row in await kept(host)] == ["recovered"]


async def test_all_of_a_batch_for_one_task_is_one_change(host, ann, node):
    task = await placed(host, ann)
    reports = [node.report("accepted", task.attempt), node.report("started", task.attempt)]
    reports.append(node.report("exited", task.attempt, **exited()))
    await node.send(*reports)
    final = await stored(host, task.id)
    assert (final.status, final.version) == (Status.COMPLETED, task.version + 3)
    assert await told(host, task.id) == ["submitted", "placed", "accepted", "started", "exited"]


async def test_a_batch_and_a_kill_at_once_both_count(host, ann, node):
    task = await placed(host, ann)
    await asyncio.gather(
        node.send(node.report("accepted", task.attempt), node.report("started", task.attempt)),
        control.kill(host, ann, str(task.id)),
    )
    now = host.board.get(task.id)
    assert (now.status, now.wanted, now.started is None) == (Status.STOPPING, Wanted.KILLED, False)
    await agree(host)


async def test_a_store_that_cannot_write_makes_reports_wait_and_none_is_lost(host, ann, node, monkeypatch):
    task = await placed(host, ann)
    write, refused = host.store.writer.write, []

    async def full(statements):
        if len(refused) < 3:
            refused.append(statements)
            raise StorageFull if len(refused) < 3 else StoreError
        return await write(statements)

    monkeypatch.setattr("kohakuriver.host.link.RETRY_SECONDS", 0)
    monkeypatch.setattr(host.store.writer, "write", full)
    await node.tell("accepted", task.attempt)
    assert len(refused) == 3
    assert (await stored(host, task.id)).status is Status.STARTING
    assert node.member.connected


async def test_a_new_life_of_the_journal_counts_from_the_beginning(host, ann, node):
    task = await running(host, ann, node)
    await node.drop()
    node.epoch, node.seq = 2, 0
    pipe = await node.connect(held=[link.Held(attempt=task.attempt, phase="running")])
    assert pipe.of(link.Welcome)[0].acknowledged == 0
    await node.tell("exited", task.attempt, **exited())
    assert (await stored(host, task.id)).status is Status.COMPLETED
    row = (await host.store.reader.of(NodeRow).filter(id=node.member.id).values("epoch", "acknowledged"))[0]
    assert row == {"epoch": 2, "acknowledged": 1}


async def test_a_journal_that_gives_numbers_out_twice_is_not_stuck(host, ann, node):
    await node.tell("unknown", "7.1")
    await node.drop()
    node.epoch = 2
    await node.connect()
    await node.drop()
    node.epoch, node.seq = 1, 0
    await node.connect()
    task = await placed(host, ann)
    await node.send(node.report("unknown", "7.1"), node.report("accepted", task.attempt))
    assert host.board.get(task.id).status is Status.STARTING


async def test_numbers_beyond_64_bits_are_unreadable_and_stop_nothing(host, ann, node):
    task = await running(host, ann, node)
    for text in (
        f'{{"t":"report","seq":{2**63},"attempt":"{task.attempt}","what":"exited"}}',
        f'{{"t":"report","seq":9,"attempt":"{task.attempt}","what":"exited","exit":{{"code":{2**70}}}}}',
        f'{{"t":"report","seq":9,"attempt":"{task.attempt}","what":"exited","usage":{{"memory_peak":{2**64}}}}}',
        f'{{"t":"report","seq":9,"attempt":"{task.attempt}","what":"exited","stdout":{{"size":-1}}}}',
    ):
        node.pipe.feed(text.encode())
    await node.pipe.until(lambda: len(node.pipe.of(link.Unsupported)) == 4)
    await node.tell("exited", task.attempt, **exited(2**40))
    final = await stored(host, task.id)
    assert (final.status, final.exit.code) == (Status.FAILED, None)


async def test_a_batch_of_another_life_is_refused(host, node):
    with pytest.raises(MovedOn):
        await host.reports.take(node.member, 99, [link.Report(seq=5, attempt="1.1", what="accepted")])
    assert node.member.acknowledged == 0
