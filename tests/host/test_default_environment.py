"""The default environment: made at its first use, while who wants it waits."""

import asyncio
from dataclasses import replace

import pytest

from kohakuriver.domain.tasks import Status
from kohakuriver.host import streams
from kohakuriver.host.environments.base import begin_base
from kohakuriver.testing.builders import building, published
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link
from kohakuriver.wire.environments import PublishReference, Sweep
from kohakuriver.wire.envs_api import FAILED

from .env_kit import until
from .kit import stored, submit


@pytest.fixture
async def builder(host):
    async with building(await add_node(host, "builder")) as builder:
        await builder.heard(Sweep)
        yield builder


async def base(host, ann, builder, answer):
    """A task in the default environment, while that is being made."""
    builder.answers[PublishReference] = answer
    (task,) = await submit(host, ann)
    assert host.board.get(task).spec.container == "kohakuriver-base:1"
    await builder.heard(PublishReference)
    return task


def reason(host, task):
    return host.scheduler.full().reasons[task]


async def test_a_task_waits_for_the_default_environment_and_starts_in_it(host, ann, builder):
    go = asyncio.Event()

    async def slow(talk):
        await talk.tell("fetching python", 1 << 20, 4 << 20)
        await go.wait()
        await talk.result(published(talk.ask))

    task = await base(host, ann, builder, slow)
    (other,) = await submit(host, ann, container="kohakuriver-base")
    await until(lambda: "fetching python" in host.environments.waiting.reasons()[task].text)
    await host.scheduler.tick()
    assert host.board.get(task).status is Status.PENDING
    assert reason(host, task).code == "environment"
    go.set()
    await until(lambda: not host.environments.waiting.names())
    await host.scheduler.tick()
    assert {host.board.get(one).status for one in (task, other)} == {Status.ASSIGNED}
    assert (await builder.peer.pipe.heard(link.Assign)).environment.number == 1
    assert len(builder.of(PublishReference)) == 1


async def test_what_cannot_be_made_ends_its_tasks_with_the_cause_and_is_tried_anew_by_the_next(host, ann, builder):
    async def fails(talk):
        await talk.fail("not_found", "no such image: python")

    task = await base(host, ann, builder, fails)
    await until(lambda: host.environments.making.number is None)
    await host.environments.waiting.tick()
    ended_task = await stored(host, task)
    assert (ended_task.status, ended_task.exit.reason) == (
        Status.FAILED,
        "environment kohakuriver-base could not be made of python:3.12-alpine: no such image: python",
    )
    del builder.answers[PublishReference]
    (again,) = await submit(host, ann)
    assert host.board.get(again).spec.container == "kohakuriver-base:2"


async def test_the_default_environment_is_begun_again_by_the_next_host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        ann = await add_account(host, "ann")
        async with building(await add_node(host, "builder")) as builder:
            task = await base(host, ann, builder, lambda _: asyncio.Event().wait())
    async with opened_host(tmp_path, clock=clock) as host:
        assert host.board.get(task).status is Status.PENDING
        assert reason(host, task).code == "environment"
        builder_again = type(builder.peer)(host, host.roster.named("builder"))
        async with building(builder_again) as builder:
            assert (await builder.heard(PublishReference)).number == 1
            await until(lambda: not host.environments.waiting.names())
            await host.scheduler.tick()
            assert host.board.get(task).status is Status.ASSIGNED


async def test_a_builder_that_went_away_makes_the_default_environment_later(host, ann, builder):
    async def breaks(talk):
        talk.end.close()

    task = await base(host, ann, builder, breaks)
    await until(lambda: host.environments.making.operation.state == FAILED)
    assert host.board.get(task).status is Status.PENDING
    del builder.answers[PublishReference]
    await builder.peer.drop()
    await builder.peer.connect()
    await until(lambda: host.environments.catalog.get("kohakuriver-base:1") is not None)


async def test_a_task_that_is_still_being_stored_is_ended_once_it_is(host, ann, builder):
    task = host.board.get(await base(host, ann, builder, lambda _: asyncio.Event().wait()))
    waiting, coming = host.environments.waiting, replace(task, id=host.ids.next())
    waiting.expect([coming])
    waiting.doom(task.spec.container, "it came to nothing")
    assert not await waiting.tick(), "it is tried again"
    assert (await stored(host, task.id)).status is Status.FAILED
    waiting.drop([coming])
    assert await waiting.tick()


async def test_a_builder_that_is_asked_too_much_makes_the_default_environment_later(host, ann, builder, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(streams, "MOST_WAITING_PER_NODE", 0)
        (task,) = await submit(host, ann)
        await until(lambda: host.environments.making.operation.state == FAILED)
    await host.environments.waiting.tick()
    assert host.board.get(task).status is Status.PENDING
    begin_base(host)
    await until(lambda: host.environments.catalog.get("kohakuriver-base:1") is not None)
