"""Where tasks would go, when, and why not elsewhere: asked of those that wait, and before a submit."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from kohakuriver.domain.strategies import first_fit, round_robin, spread
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import Conflict, Invalid, NeverFits, NotFound, TooMany
from kohakuriver.host import control, foresee, nodes
from kohakuriver.host.foresee import explain, plan_tasks
from kohakuriver.host.labels import label_node
from kohakuriver.host.turns import MOST_WAITING, Turns
from kohakuriver.testing.runners import GIB, add_node
from kohakuriver.wire import api

from .kit import agree, exited, placed, running, submit


async def asked(host, actor, **fields):
    return await plan_tasks(host, actor, api.SubmitTask(**{"command": ["true"], **fields}))


def said(view):
    return {one.node: one.reason for one in view.candidates}


@pytest.fixture
async def three(host, node):
    """node1 with 4 cores and two more, with 8 and 16."""
    peers = [node]
    for name, cpus in (("node2", 8), ("node3", 16)):
        peers.append(await add_node(host, name, cpus=cpus, memory=cpus * GIB))
        await peers[-1].connect()
    return peers


async def test_a_dry_run_names_the_node_and_why_the_others_lose_and_stores_nothing(host, ann, three):
    plan = await asked(host, ann, cores=6)
    (place,) = plan.places
    assert (plan.tasks, plan.starting, place.node, place.window.text) == (1, 1, "node2", "now")
    assert place.reason is None
    assert [(one.node, one.takes, one.chosen) for one in place.candidates] == [
        ("node2", True, True), ("node3", True, False), ("node1", False, False),
    ]  # fmt: skip
    assert said(place) == {
        "node2": "it fits there now",
        "node3": "it fits there too; node2 is fuller: 8 cores, 8 GiB free, here 16 cores, 16 GiB",
        "node1": "needs 6 cores; most free is 4 cores on node1",
    }
    assert list(host.board.all()) == []
    assert await host.scheduler.tick() == 0


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (spread, "it fits there too; a smaller part of node1 is taken: 4 cores, 8 GiB free, here 6 cores, 8 GiB"),
        (first_fit, "it fits there too; node1 comes first"),
        (round_robin, "it fits there too; node1 was given work less recently"),
    ],
)
async def test_every_strategy_says_why_a_runner_up_lost(host, ann, three, strategy, words):
    await submit(host, ann, cores=2, targets=["node2"])
    await host.scheduler.tick()
    host.scheduler.strategy = strategy
    (place,) = (await asked(host, ann)).places
    assert place.node == "node1"
    assert said(place)["node2"] == words


async def test_the_dry_run_goes_where_the_submit_then_goes(host, ann, three):
    for fields in ({"cores": 3}, {"cores": 8}, {"cores": 4}, {"cores": 9}):
        (place,) = (await asked(host, ann, **fields)).places
        task = await placed(host, ann, **fields)
        assert host.roster.name_of(task.node) == place.node


async def test_several_targets_and_copies_are_told_apart_and_counted(host, ann, three):
    plan = await asked(host, ann, cores=3, targets=["node1", "node2"], copies=3)
    assert (plan.tasks, plan.starting) == (6, 3)
    assert [(place.target, place.node) for place in plan.places] == [("node1", "node1"), ("node2", "node2")]
    assert said(plan.places[0])["node2"] == "the task asks for node node1"


async def test_what_a_submit_would_refuse_is_refused(host, ann, three):
    with pytest.raises(NeverFits, match="needs 17 cores; the most is 16 cores on node3"):
        await asked(host, ann, cores=17)
    with pytest.raises(NotFound):
        await asked(host, ann, targets=["node9"])
    with pytest.raises(Invalid):
        await asked(host, ann, constraints=["a b"])


async def test_a_waiting_task_starts_by_the_time_limits_of_what_runs(host, ann, node, clock):
    await running(host, ann, node, cores=3, time_limit=100, grace=0)
    (big,) = await submit(host, ann, cores=4, time_limit=50, grace=0)
    (next_,) = await submit(host, ann, cores=4, time_limit=60, grace=0)
    await host.scheduler.tick()
    clock.advance(5)
    now = host.clock.now()
    first, second = await explain(host, ann, str(big)), await explain(host, ann, str(next_))
    assert (first.window.earliest, first.window.latest) == (now, now + timedelta(seconds=95))
    assert second.window.latest == now + timedelta(seconds=145)
    assert first.window.text.startswith("between 2030-01-01 00:00:05 and 2030-01-01 00:01:40 UTC")
    assert first.reason.text == "needs 4 cores; most free is 1 core on node1"
    (small,) = await submit(host, ann, cores=1)
    held = await explain(host, ann, str(small))
    assert held.candidates[0].reason.startswith(f"would fit on node1, where it might hold up task {big}")
    (place,) = (await asked(host, ann, cores=1, time_limit=60, grace=0)).places
    assert (place.node, place.window.text) == ("node1", "now")


async def test_a_plan_is_of_one_moment_whatever_the_clock_does_meanwhile(host, ann, node, clock, monkeypatch):
    await running(host, ann, node, cores=3, time_limit=100)
    await submit(host, ann, cores=4)
    (small,) = await submit(host, ann, cores=1, time_limit=10)
    wall = clock.now

    def moves_on():
        clock.advance(0.001)
        return wall()

    monkeypatch.setattr(clock, "now", moves_on)
    (place,) = (await asked(host, ann, cores=1, time_limit=10)).places
    assert place.node is None
    assert await host.scheduler.tick() == 1
    assert host.board.get(small).status is Status.ASSIGNED


async def test_where_no_time_limit_is_known_the_window_says_how_many_lack_one(host, ann, node):
    await running(host, ann, node, cores=2)
    await running(host, ann, node, cores=1, time_limit=60)
    await submit(host, ann, cores=4)
    (last,) = await submit(host, ann, cores=3)
    told = await explain(host, ann, str(last))
    assert told.window.latest is None
    assert told.window.text == "unknown: 2 of 3 tasks before it have no time limit"


async def test_what_does_not_wait_for_room_has_no_window(host, ann, boss, node):
    (task,) = await submit(host, ann)
    await control.pause(host, ann, str(task))
    told = await explain(host, ann, str(task))
    assert told.window.text == "unknown: is wanted paused; resume it to let it start"
    assert told.candidates[0].reason == "it would fit there now"
    await nodes.drain(host, boss, "node1", "dust")
    (place,) = (await asked(host, ann)).places
    assert place.window.text == "unknown: no node takes such work now"
    ended = await running_and_over(host, ann, boss, node)
    assert (await explain(host, ann, str(ended))).window is None


async def running_and_over(host, ann, boss, node):
    await nodes.undrain(host, boss, "node1")
    return (await running(host, ann, node)).id


async def test_labels_come_from_runner_and_operator_and_the_operators_win(host, ann, boss, node):
    await node.connect(labels={"room": "b11", "rack": "r1", "Bad Key": "x"})
    assert node.member.every_label == {"room": "b11", "rack": "r1"}
    view = await label_node(host, boss, "node1", {"room": "b12", "fast": ""})
    assert view.labels == {"room": "b12", "rack": "r1", "fast": ""}
    await node.connect(labels={"room": "b11", "rack": "r1"})
    assert node.member.every_label == {"room": "b12", "rack": "r1", "fast": ""}
    assert (await label_node(host, boss, "node1", {"room": None})).labels["room"] == "b11"
    with pytest.raises(Exception, match="announces the label rack itself"):
        await label_node(host, boss, "node1", {"rack": None})
    with pytest.raises(Invalid):
        await label_node(host, boss, "node1", {"Room": "x"})


async def test_a_task_goes_only_where_its_constraints_hold(host, ann, boss, three):
    with pytest.raises(NeverFits, match="none of 3 nodes has fast; none has a label fast"):
        await submit(host, ann, constraints=["fast"])
    await label_node(host, boss, "node3", {"fast": "yes"})
    task = await placed(host, ann, constraints=["fast=yes", "slow!=1"])
    assert host.roster.name_of(task.node) == "node3"
    (waits,) = await submit(host, ann, constraints=["fast"], cores=16)
    told = said(await explain(host, ann, str(waits)))
    assert told["node1"] == "it does not have fast"
    await label_node(host, boss, "node3", {"fast": None})
    assert await host.scheduler.tick() == 0
    assert (await explain(host, ann, str(waits))).reason.code == "labels"
    assert host.board.get(task.id).status is Status.ASSIGNED
    await agree(host)


async def test_a_dry_run_of_what_would_wait_for_others_says_so(host, ann, three):
    first = await running(host, ann, three[0])
    plan = await asked(host, ann, after=[str(first.id)], copies=2)
    (place,) = plan.places
    assert (plan.tasks, plan.starting, place.node) == (2, 0, None)
    assert (place.reason.code, place.reason.text) == ("dependency", f"waits for 1 of 1 task; next {first.id}")
    assert place.window.text == f"unknown: waits for 1 of 1 task; next {first.id}"
    assert said(place)["node1"] == "it would fit there now"
    assert not any(one.chosen for one in place.candidates)
    await three[0].tell("exited", first.attempt, **exited(3))
    with pytest.raises(Conflict, match="this could never start"):
        await asked(host, ann, after=[str(first.id)])
    assert (await asked(host, ann, after_any=[str(first.id)])).starting == 1


async def test_a_dry_run_of_what_would_wait_for_approval_says_so(host, ann, boss, three):
    host.settings = replace(host.settings, approve_users=True)
    plan = await asked(host, ann)
    assert (plan.starting, plan.places[0].node, plan.places[0].reason.code) == (0, None, "approval")
    assert (await asked(host, boss)).starting == 1


async def test_a_dry_run_refuses_the_name_that_a_submit_refuses(host, ann, three):
    for ask in (asked, submit):
        with pytest.raises(Invalid, match="name must not contain"):
            await ask(host, ann, name="a/b")


async def test_others_get_the_loop_between_the_looks_of_one_dry_run(host, ann, three, monkeypatch):
    seen = []
    look = foresee.outlook

    def noted(*arguments, **more):
        seen.append("look")
        asyncio.get_running_loop().call_soon(seen.append, "other")
        return look(*arguments, **more)

    monkeypatch.setattr(foresee, "outlook", noted)
    plan = await asked(host, ann, targets=["node1", "node2", "node3"])
    assert [place.node for place in plan.places] == ["node1", "node2", "node3"]
    assert seen[:5] == ["look", "other", "look", "other", "look"]


async def test_no_more_than_so_many_wait_for_a_look_and_who_goes_away_waits_no_more(host, ann, node):
    turns = Turns(host.clock)
    asking = [asyncio.create_task(turns.take(int)) for _ in range(1 + MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooMany):
        await turns.take(int)
    asking.pop().cancel()
    await asyncio.sleep(0)
    assert await turns.take(int) == 0
    assert await asyncio.gather(*asking) == [0] * MOST_WAITING
