"""What one user may hold at once: obeyed by the plan, and by the commit whatever was planned."""

import asyncio

import pytest

from kohakuriver.domain.limits import Limits
from kohakuriver.domain.placement import plan
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import NotAllowed
from kohakuriver.host import tasks, users
from kohakuriver.host.owners import Owners, Person
from kohakuriver.store.write import WrongCount
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import GIB, add_node
from kohakuriver.wire import api, link, people

from .kit import agree, exited, placed, running, submit
from .people_kit import admin


@pytest.fixture
async def root(host):
    return await admin(host)


@pytest.fixture
async def big(host):
    """A node with room for everybody, and four cards."""
    peer = await add_node(host, "big", cpus=64, memory=64 * GIB)
    peer.cells[0].devices = [
        link.WireDevice(id=f"0000:0{n}:00.0", index=n, model="A100", memory=40 * GIB) for n in range(4)
    ]
    await peer.connect()
    return peer


async def limit(host, root, name="ann", **most):
    await users.limit_user(host, root, name, people.LimitUser(**most))


async def why(host, actor, task):
    return (await tasks.show_task(host, actor, str(task))).reason


@pytest.mark.parametrize(
    ("most", "each", "words"),
    [
        ({"most_running": 2}, {}, "its owner has 2 of at most 2 tasks under way"),
        ({"most_cores": 5}, {"cores": 2}, "needs 2 cores; its owner holds 4 cores of at most 5 cores"),
        ({"most_memory": 5 * GIB}, {"memory": 2 * GIB}, "needs 2 GiB; its owner holds 4 GiB of at most 5 GiB"),
        ({"most_devices": 2}, {"devices": api.Devices(count=1)}, "needs 1 GPU; its owner holds 2 of at most 2"),
    ],
)
async def test_a_user_at_a_limit_waits_while_others_go_on(host, ann, root, big, most, each, words):
    await limit(host, root, **most)
    mine = await submit(host, ann, copies=4, **each)
    (others,) = await submit(host, await add_account(host, "bob"), **each)
    assert await host.scheduler.tick() == 3
    assert host.board.get(others).status is Status.ASSIGNED
    reason = await why(host, ann, mine[3])
    assert (reason.code, reason.text, reason.ahead) == ("owner_limit", words, 1)
    shown = await users.show_user(host, root, "ann")
    assert (shown.running, shown.cores) == (2, 2.0 * each.get("cores", 1))
    await agree(host)


async def test_what_ends_makes_room_under_the_limit_in_the_same_commit(host, ann, root, big):
    await limit(host, root, most_running=1)
    first = await running(host, ann, big)
    (second,) = await submit(host, ann)
    assert await host.scheduler.tick() == 0
    await big.tell("exited", first.attempt, **exited())
    assert host.board.get(second).status is Status.ASSIGNED
    assert host.board.held_by(ann.id).tasks == 1


async def test_two_plans_made_at_once_use_up_one_limit_once(host, ann, root, big):
    await limit(host, root, most_running=1)
    one, two = await submit(host, ann, copies=2)
    reserved = plan(host.scheduler.snapshot(), [host.board.get(one)]).placements[0].reserved
    second = await add_node(host, "second")
    await second.connect()
    results = await asyncio.gather(
        host.ledger.place(big.member, [(host.board.get(one), reserved)]),
        host.ledger.place(second.member, [(host.board.get(two), reserved)]),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["WrongCount", "list"]
    assert host.board.held_by(ann.id).tasks == 1
    await agree(host)


async def test_the_commit_refuses_what_a_plan_without_the_limit_chose(host, ann, root, big):
    both = await submit(host, ann, copies=2, cores=2, memory=GIB, devices=api.Devices(count=1))
    made = plan(host.scheduler.snapshot(), [host.board.get(task) for task in both])
    pairs = [(host.board.get(one.task), one.reserved) for one in made.placements]
    for most in ({"most_cores": 3}, {"most_memory": 2 * GIB - 1}, {"most_devices": 1}, {"most_running": 1}):
        await limit(host, root, **most)
        with pytest.raises(WrongCount):
            await host.ledger.place(big.member, pairs)
        await limit(host, root, **dict.fromkeys(most, -1))
    await host.ledger.place(big.member, pairs)
    assert host.board.held_by(ann.id).devices == 2
    await agree(host)


async def test_operators_set_limits_and_users_do_not(host, ann, boss):
    assert (await users.limit_user(host, boss, "ann", people.LimitUser(most_open=3))).most_open == 3
    with pytest.raises(NotAllowed):
        await users.limit_user(host, ann, "ann", people.LimitUser(most_open=0))


async def test_a_limit_that_is_raised_or_lifted_lets_the_next_start(host, ann, root, big):
    await limit(host, root, most_cores=1)
    await placed(host, ann)
    (second,) = await submit(host, ann)
    assert await host.scheduler.tick() == 0
    await limit(host, root, most_cores=0)
    assert host.scheduler._wake.is_set()
    assert await host.scheduler.tick() == 1
    assert host.board.get(second).status is Status.ASSIGNED
    assert (await users.show_user(host, root, "ann")).most_cores == 0


def test_the_clusters_default_holds_for_whoever_has_no_limit_of_their_own():
    owners = Owners(
        {1: Person(name="a"), 2: Person(name="b", most=Limits(cores=0, tasks=9))}, Limits(cores=8, memory=0)
    )
    assert (owners[1], owners[2]) == (Limits(cores=8), Limits(tasks=9))
    assert Owners({1: Person(name="a")}).get(1) is None
