"""Arrays: what one submission of many tasks stores, how many of it run, and what is done to all of it at once."""

import asyncio

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.tasks import HOLDING, Status
from kohakuriver.errors import Invalid, NotAllowed, NotFound
from kohakuriver.host import batches, control, tasks
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link

from .kit import Gate, agree, exited, placed, running, submit


def under_way(host, batch):
    return [task for task in host.board.all() if task.batch == batch and task.status in HOLDING]


async def finish(peer, task, code=0):
    await peer.tell("accepted", task.attempt)
    await peer.tell("started", task.attempt)
    await peer.tell("exited", task.attempt, **exited(code))


async def test_every_index_is_a_task_of_its_own(host, ann, node):
    ids = await submit(host, ann, array="1,3,8-12:2", name="sweep", cores=0, env={"MINE": "{index}"})
    found = [host.board.get(task) for task in ids]
    assert [task.name for task in found] == [f"sweep[{index}]" for index in (1, 3, 8, 10, 12)]
    assert {task.batch for task in found} == {ids[0]}
    await host.scheduler.tick()
    last = (await node.pipe.heard(link.Assign, 3)).env
    assert last == {
        "MINE": "{index}",
        "KOHAKURIVER_ARRAY_INDEX": "8",
        "KOHAKURIVER_ARRAY_MIN": "1",
        "KOHAKURIVER_ARRAY_MAX": "12",
        "KOHAKURIVER_ARRAY_COUNT": "5",
        "KOHAKURIVER_ARRAY_BATCH": str(ids[0]),
    }
    view = await tasks.show_task(host, ann, "sweep[8]")
    assert (view.array.index, view.array.count, view.array.most) == (8, 5, None)
    await agree(host)


@pytest.mark.parametrize(
    ("fields", "field", "limit"),
    [
        ({"array": "0-5000"}, "array", "5000"),
        ({"array": "0-3:0"}, "array", "1 or more"),
        ({"array": "0-3", "copies": 2}, "copies", "1 with an array"),
        ({"array": "0-3", "targets": ["node1", "node1:0"]}, "targets", "1 with an array"),
    ],
)
async def test_what_an_array_cannot_be_is_refused_whole(host, ann, node, fields, field, limit):
    with pytest.raises(Invalid) as caught:
        await submit(host, ann, **fields)
    assert (caught.value.field, limit in caught.value.limit, caught.value.value is None) == (field, True, False)
    assert not list(host.board.all())


async def test_a_limited_array_keeps_its_limit_whatever_room_there_is(host, ann):
    big = await add_node(host, "big", cpus=64)
    await big.connect()
    ids = await submit(host, ann, array="0-15%4")
    (other,) = await submit(host, ann)
    assert await host.scheduler.tick() == 5
    assert await host.scheduler.tick() == 0
    assert {task.id for task in under_way(host, ids[0])} == set(ids[:4])
    assert host.board.get(other).status is Status.ASSIGNED
    why = await tasks.show_task(host, ann, str(ids[4]))
    assert (why.reason.code, why.reason.text) == ("array_limit", "4 of its array run, at most 4")
    await finish(big, host.board.get(ids[1]))
    await host.scheduler.tick()
    assert len(under_way(host, ids[0])) == 4
    await agree(host)


async def test_what_is_paused_or_unreachable_still_counts(host, ann, node):
    ids = await submit(host, ann, array="0-3%2", cores=1)
    await host.scheduler.tick()
    await node.tell("accepted", host.board.get(ids[0]).attempt)
    await node.tell("started", host.board.get(ids[0]).attempt)
    await control.pause(host, ann, str(ids[0]))
    await node.tell("paused", host.board.get(ids[0]).attempt)
    await (await add_node(host, "node2")).connect()
    await node.drop()
    assert await host.scheduler.tick() == 0


async def test_the_limit_holds_over_a_restart_of_the_host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        ann = await add_account(host, "ann")
        node = await add_node(host, cpus=16)
        await node.connect()
        ids = await submit(host, ann, array="0-9%3")
        assert await host.scheduler.tick() == 3
    async with opened_host(tmp_path, clock=clock) as host:
        (member,) = host.roster.live()
        node.host, node.member = host, member
        await node.connect(held=[link.Held(attempt=f"{task}.1", phase="running") for task in ids[:3]])
        assert await host.scheduler.tick() == 0
        await node.tell("started", f"{ids[0]}.1")
        await node.tell("accepted", f"{ids[1]}.1")
        assert await host.scheduler.tick() == 0
        await node.tell("start_failed", f"{ids[1]}.1", reason="no program")
        await host.scheduler.tick()
        assert len(under_way(host, ids[0])) == 3
        await agree(host)


async def test_two_arrays_do_not_share_a_limit_and_a_full_one_hides_nobody(host, ann):
    big = await add_node(host, "big", cpus=200)
    await big.connect()
    first = await submit(host, ann, array="0-99%2")
    second = await submit(host, ann, array="0-99%3")
    (plain,) = await submit(host, ann)
    assert await host.scheduler.tick() == 6
    assert (len(under_way(host, first[0])), len(under_way(host, second[0]))) == (2, 3)
    assert host.board.get(plain).status is Status.ASSIGNED
    assert await host.scheduler.tick() == 0


async def test_what_ends_makes_room_for_the_next_of_its_array_in_the_same_commit(host, ann, node):
    ids = await submit(host, ann, array="0-9%1", cores=1)
    await host.scheduler.tick()
    for number in range(3):
        await finish(node, host.board.get(ids[number]))
        assert [task.id for task in under_way(host, ids[0])] == [ids[number + 1]]


async def test_a_whole_batch_is_ended_at_once_by_any_of_its_names(host, ann, node):
    ids = await submit(host, ann, array="0-9%2", name="sweep")
    (other,) = await submit(host, ann, name="other")
    await host.scheduler.tick()
    await finish(node, host.board.get(ids[0]), code=3)
    view = await batches.kill_batch(host, ann, str(ids[3]))
    assert (view.batch, view.tasks, view.changed, view.owner) == (str(ids[0]), 10, 9, "ann")
    assert view.statuses == {"failed": 1, "stopping": 2, "killed": 7}
    assert host.board.get(other).status in {Status.PENDING, Status.ASSIGNED}
    again = await batches.kill_batch(host, ann, "sweep")
    assert (again.changed, again.statuses) == (2, view.statuses)
    assert (await batches.show_batch(host, ann, "sweep[4]")).statuses == view.statuses
    await agree(host)


async def test_a_whole_batch_is_held_back_and_let_go(host, ann, node):
    ids = await submit(host, ann, copies=3, cores=4)
    task = await placed(host, ann, cores=0)
    assert (await batches.pause_batch(host, ann, str(ids[1]))).changed == 3
    assert host.board.get(task.id).wanted == "run"
    assert {host.board.get(task).wanted for task in ids} == {"paused"}
    assert (await batches.resume_batch(host, ann, str(ids[0]))).changed == 3


async def test_a_batch_of_others_is_not_there(host, ann, node):
    bob = await add_account(host, "bob")
    eve = await add_account(host, "eve", Role.VIEWER)
    boss = await add_account(host, "boss", Role.OPERATOR)
    ids = await submit(host, ann, array="0-3", name="sweep")
    for ref in (str(ids[0]), "sweep", "sweep[1]", "nothing"):
        with pytest.raises(NotFound, match=r"there is no task"):
            await batches.kill_batch(host, bob, ref)
    with pytest.raises(NotAllowed):
        await batches.kill_batch(host, eve, str(ids[0]))
    assert (await batches.kill_batch(host, boss, "sweep")).changed == 4


async def test_the_list_of_a_batch_is_found_by_each_of_its_tasks(host, ann, node):
    ids = await submit(host, ann, array="0-4", name="sweep")
    await submit(host, ann)
    for ref in (str(ids[2]), "sweep", "sweep[3]", str(ids[4])):
        page = await tasks.list_tasks(host, ann, batch=ref, sort="id")
        assert [item.id for item in page.items] == [str(task) for task in ids]
    assert (await tasks.list_tasks(host, ann, batch="nothing")).items == []


async def test_a_task_found_again_counts_in_its_array(host, ann, boss, node):
    task = await running(host, ann, node, array="0%1", cores=1)
    await control.declare_lost(host, boss, str(task.id), "gone")
    assert host.board.arrays() == {}
    await node.tell("paused", task.attempt)
    assert host.board.arrays() == {task.batch: 1}


async def test_spans_are_one_task_for_each_combination(host, ann, node):
    ids = await submit(
        host, ann, command=["train", "span:{1..2}", "--model", "span:[s, l]"], span=True, at_once=1, name="sweep"
    )
    found = [host.board.get(task) for task in ids]
    assert [task.spec.argv for task in found] == [
        ("train", number, "--model", model) for number in ("1", "2") for model in ("s", "l")
    ]
    assert [task.name for task in found] == [f"sweep[{number}]" for number in range(4)]
    assert {task.batch for task in found} == {ids[0]}
    assert await host.scheduler.tick() == 1
    assert await host.scheduler.tick() == 0


async def test_without_being_asked_for_a_span_is_a_word(host, ann, node):
    (task,) = await submit(host, ann, command=["echo", "span:{1..2}"])
    assert host.board.get(task).spec.argv == ("echo", "span:{1..2}")


async def test_an_array_may_say_how_many_at_once_in_either_way(host, ann, node):
    for fields in ({"array": "0-3", "at_once": 2}, {"array": "0-3%2"}, {"array": "0-3%2", "at_once": 4}):
        ids = await submit(host, ann, cores=0, **fields)
        assert host.board.get(ids[0]).spec.array.most == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": ["a", "span:[]"], "span": True}, "command"),
        ({"command": ["a", "span:{2..1}"], "span": True}, "command[1]"),
        ({"command": ["a", "span:{0..9999}"], "span": True}, "command"),
        ({"command": ["a", "span:{0..1}"], "span": True, "array": "0-1"}, "span"),
        ({"command": ["a", "span:{0..1}"], "span": True, "copies": 2}, "copies"),
        ({"at_once": 2}, "at_once"),
    ],
)
async def test_spans_that_mean_nothing_are_refused(host, ann, node, fields, field):
    with pytest.raises(Invalid) as caught:
        await submit(host, ann, **fields)
    assert caught.value.field == field


async def test_ones_own_array_is_found_however_many_newer_ones_of_that_name_others_have(host, ann, node):
    bob = await add_account(host, "bob")
    mine = await submit(host, ann, name="sweep", array="0-1")
    single = await submit(host, ann, name="train")
    await submit(host, bob, name="sweep", array="0-29")
    await submit(host, bob, name="train", copies=30)
    assert (await tasks.find_task(host, ann, "train")).id == single[0]
    assert (await batches.kill_batch(host, ann, "sweep")).batch == str(mine[0])


async def test_the_name_of_an_array_is_told_apart_by_its_case(host, ann, node):
    await submit(host, ann, name="sweep", array="0-1")
    with pytest.raises(NotFound):
        await batches.kill_batch(host, ann, "Sweep")


async def test_a_place_that_came_to_nothing_counts_against_no_limit(host, ann, node, monkeypatch):
    one, two = await submit(host, ann, array="0-1%1")
    await host.scheduler.tick()
    attempt = host.board.get(one).attempt
    await node.tell("accepted", attempt)
    await node.tell("started", attempt)
    (other,) = await submit(host, ann)
    with monkeypatch.context() as patch:
        gate = Gate(host, patch)
        placing = asyncio.create_task(host.scheduler.tick())
        await gate.reached()
        # the end of the first would give its place to the second, but by then the node has been given the other
        over = node.report("exited", attempt, **exited())
        node.pipe.feed(over)
        await gate.reached()
        gate.opened.set()
        assert await placing == 1
    await node.acknowledged(over.seq)
    assert host.board.get(other).status is Status.ASSIGNED
    assert host.board.get(two).status is Status.PENDING
    assert await host.scheduler.tick() == 1
    await agree(host)
