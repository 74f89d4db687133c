"""What a node is sent: everything comes from rows, may come twice, and comes again while it shows no effect."""

from kohakuriver.domain.tasks import Status
from kohakuriver.host import control
from kohakuriver.host.returned import FORGOT
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import exited, placed, running, stored, submit


def assigned(pipe):
    return [message.attempt for message in pipe.of(link.Assign)]


def wishes(pipe):
    return [(w.attempt, w.wanted, w.revision) for page in pipe.of(link.WantedSet) for w in page.wishes]


async def synced(node):
    """Everything that the host had to say so far was said."""
    await node.tell("unknown", "1.1")


async def test_a_placement_is_sent_at_once_with_everything_that_the_node_needs(host, ann, node):
    (task,) = await submit(
        host, ann, command=["sh", "-c", "exit 7"], env={"A": "b"}, secrets={"KEY": "s3cret"}, workdir="/tmp",
        cores=2, memory=2**30, time_limit=60, grace=5, name="walk",
    )  # fmt: skip
    await host.scheduler.tick()
    told = await node.pipe.heard(link.Assign)
    assert (told.attempt, told.instance, told.owner, told.name) == (f"{task}.1", f"{task}.1", "ann", "walk")
    assert (told.argv, told.env, told.secrets) == (["sh", "-c", "exit 7"], {"A": "b"}, {"KEY": "s3cret"})
    assert (told.workdir, told.time_limit, told.grace, told.wanted, told.revision) == ("/tmp", 60, 5, "run", 0)
    reserved = told.reserved
    assert (reserved.cpu_milli, reserved.cpu_limit_milli, reserved.memory_limit) == (2000, 2000, 2**30)


async def test_an_assignment_without_an_answer_is_sent_again_every_five_seconds(host, ann, node, clock):
    task = await placed(host, ann)
    host.dispatch.tick()
    clock.advance(4.9)
    host.dispatch.tick()
    await synced(node)
    assert assigned(node.pipe) == [task.attempt]
    clock.advance(0.2)
    host.dispatch.tick()
    host.dispatch.tick()
    await synced(node)
    assert assigned(node.pipe) == [task.attempt] * 2
    await node.tell("accepted", task.attempt)
    clock.advance(60)
    node.pipe.feed(link.Heartbeat())
    host.dispatch.tick()
    await synced(node)
    assert len(assigned(node.pipe)) == 2


async def test_a_wish_is_sent_again_until_it_is_true(host, ann, node, clock):
    task = await running(host, ann, node)
    await control.pause(host, ann, str(task.id))
    for _ in range(3):
        clock.advance(6)
        host.dispatch.tick()
    await synced(node)
    assert wishes(node.pipe) == [(task.attempt, "paused", 1)] * 4
    await node.tell("paused", task.attempt)
    clock.advance(6)
    host.dispatch.tick()
    await synced(node)
    assert len(wishes(node.pipe)) == 4
    await control.resume(host, ann, str(task.id))
    clock.advance(6)
    host.dispatch.tick()
    await node.tell("resumed", task.attempt)
    assert wishes(node.pipe)[4:] == [(task.attempt, "run", 2)] * 2


async def test_a_kill_while_the_node_is_away_is_told_when_it_is_back(host, ann, node):
    task = await running(host, ann, node)
    await node.drop()
    await control.kill(host, ann, str(task.id))
    pipe = await node.connect(held=[link.Held(attempt=task.attempt, phase="running")])
    assert wishes(pipe) == [(task.attempt, "killed", 1)]
    await node.tell("exited", task.attempt, **exited(None, signalled="killed"))
    assert host.board.get(task.id) is None


async def test_a_new_session_is_told_what_is_wanted_of_all_and_gets_what_it_never_got(host, ann, node):
    held = await running(host, ann, node)
    gone = await running(host, ann, node)
    known = await placed(host, ann)
    fresh = await placed(host, ann)
    await node.drop()
    inventory = [link.Held(attempt=held.attempt, phase="running"), link.Held(attempt=known.attempt, phase="accepted")]
    pipe = await node.connect(held=inventory)
    await synced(node)
    # of what should have been accepted and is not there, the node will say `unknown`
    assert sorted(wishes(pipe)) == sorted((one.attempt, "run", 0) for one in (held, gone, known))
    assert assigned(pipe) == [fresh.attempt]


async def test_an_assignment_that_came_while_the_node_was_away_waits_for_it(host, ann, node):
    task = await placed(host, ann)
    await node.drop()
    pipe = await node.connect()
    await synced(node)
    assert assigned(pipe) == [task.attempt]


async def test_the_complete_set_comes_in_pages_and_only_the_last_says_so(host, ann, monkeypatch):
    monkeypatch.setattr(link, "PAGE", 3)
    big = await add_node(host, "big", cpus=64)
    await big.connect()
    tasks = [await running(host, ann, big) for _ in range(7)]
    await big.drop()
    pipe = await big.connect(held=[link.Held(attempt=task.attempt, phase="running") for task in tasks])
    pages = pipe.of(link.WantedSet)
    assert [(len(page.wishes), page.complete) for page in pages] == [(3, False), (3, False), (1, True)]
    assert {wish.attempt for page in pages for wish in page.wishes} == {task.attempt for task in tasks}


async def test_what_is_done_with_is_forgotten_also_when_the_word_was_lost(host, ann, node):
    task = await running(host, ann, node)
    await node.tell("exited", task.attempt, **exited())
    await node.pipe.heard(link.Forget)
    await node.drop()
    held = [link.Held(attempt=task.attempt, phase="exited"), link.Held(attempt="77.1", phase="closed")]
    held += [link.Held(attempt="88.1", phase="exited"), link.Held(attempt="nonsense", phase="closed")]
    pipe = await node.connect(held=held)
    forget = await pipe.heard(link.Forget)
    # 88.1 ended here as nobody else knows: it is held until somebody does
    assert sorted(forget.attempts) == sorted([task.attempt, "77.1"])


async def test_nothing_is_remembered_of_what_is_over(host, ann, node):
    for _ in range(20):
        task = await running(host, ann, node)
        await control.kill(host, ann, str(task.id), grace=1)
        await node.tell("exited", task.attempt, **exited(None, signalled="killed"))
    waiting = await placed(host, ann)
    await node.tell("refused_for_now", waiting.attempt)
    assert host.dispatch._sent == {}
    await control.kill(host, ann, str(waiting.id), grace=1)
    assert list(host.board.all()) == []
    assert len(host.board.queue) == 0
    assert not any(host.board._reserved.values())


async def test_a_node_that_is_not_there_is_sent_nothing(host, ann, node):
    task = await placed(host, ann)
    await node.drop()
    host.dispatch.assign(task)
    host.dispatch.wish(task)
    host.dispatch.tick()
    assert host.board.get(task.id).status is Status.ASSIGNED


async def test_an_assignment_of_another_life_of_the_journal_is_not_sent_again_for_it_may_have_begun(host, ann, node):
    lost = await placed(host, ann)
    ending = await placed(host, ann)
    await control.kill(host, ann, str(ending.id))
    await node.drop()
    node.epoch, node.seq = 2, 0
    pipe = await node.connect()
    fresh = await placed(host, ann)
    await synced(node)
    assert assigned(pipe) == [fresh.attempt]
    final = await stored(host, lost.id)
    assert (final.status, final.exit.reason) == (Status.LOST, FORGOT)
    assert (await stored(host, ending.id)).status is Status.LOST
    # if it had begun, its own end still counts
    await node.tell("exited", lost.attempt, **exited(4))
    assert (await stored(host, lost.id)).exit.code == 4


async def test_a_tombstone_is_kept_until_its_report_has_come(host, ann, node, clock):
    task = await placed(host, ann)
    refused = node.report("refused_for_now", task.attempt)
    await node.drop()
    held = [link.Held(attempt=task.attempt, phase="closed")]
    pipe = await node.connect(held=held)
    clock.advance(6)
    host.dispatch.tick()
    # sent again, for nobody answered; without its tombstone the node would start what it has refused
    await pipe.heard(link.Assign)
    assert pipe.of(link.Forget) == []
    await node.send(refused)
    assert (await pipe.heard(link.Forget)).attempts == [task.attempt]
