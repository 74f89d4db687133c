"""What operations leave that fail, or that cannot be finished at once: it goes, or is gone on with, in the end."""

import asyncio

import pytest

from kohakuriver.errors import Conflict
from kohakuriver.host.cause import by
from kohakuriver.host.environments import orders, removal, sweep
from kohakuriver.host.environments.base import run_base
from kohakuriver.host.environments.catalog import wire_version
from kohakuriver.host.environments.connected import builder_connected
from kohakuriver.store.environments import all_versions
from kohakuriver.testing.builders import building, published
from kohakuriver.testing.runners import add_node
from kohakuriver.wire.environments import PackageContainer, RemoveVersion, SettleContainer, Sweep
from kohakuriver.wire.envs_api import DONE, FAILED, PackageAsk

from .env_kit import ended, until


@pytest.fixture
async def builder(host):
    async with building(await add_node(host, "builder")) as builder:
        await builder.heard(Sweep)
        yield builder


async def package(host, actor, name="my-env"):
    return await ended(host, await orders.package_container(host, actor, name, PackageAsk()))


async def test_what_a_failure_left_goes_when_the_last_that_was_under_way_is_done(host, boss, builder):
    going, go = asyncio.Event(), asyncio.Event()

    async def packages(talk):
        if talk.ask.name == "my-env":
            await talk.fail("storage_full", "no room on the builder")
            return
        going.set()
        await go.wait()
        await talk.result(published(talk.ask))

    builder.answers[PackageContainer] = packages
    view = await orders.package_container(host, boss, "other", PackageAsk())
    await going.wait()
    assert (await package(host, boss)).state == FAILED
    assert len(builder.of(Sweep)) == 1, "the builder is still at the other one"
    go.set()
    assert (await ended(host, view)).state == DONE
    assert len(builder.of(Sweep)) == 2


async def test_a_sweep_names_the_newest_versions_alone(host, boss, builder, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_SWEPT", 2)
    for _ in range(3):
        host.clock.advance(1)
        await package(host, boss)
    await builder_connected(host, builder.peer.member)
    assert sorted(one.number for one in builder.of(Sweep)[-1].versions) == [2, 3]


async def test_a_removal_that_came_to_nothing_goes_on_with_the_builder_there_all_the_time(host, boss, builder):
    await package(host, boss)

    async def fails(talk):
        await talk.fail("plugin", "the registry does not answer")

    builder.answers[RemoveVersion] = fails
    assert (await ended(host, await removal.remove_versions(host, boss, "my-env", 1))).state == FAILED
    del builder.answers[RemoveVersion]
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(run_base(host))
        await until(lambda: not host.environments.catalog.all())
        loop.cancel()
    assert await all_versions(host.store.reader) == []


async def test_a_container_that_could_not_be_made_anew_is_with_the_builder_there_all_the_time(host, boss, builder):
    async def away(talk):
        await talk.fail("backend_away", "the daemon does not answer")

    builder.answers[SettleContainer] = away
    assert (await package(host, boss)).state == DONE
    assert list(host.environments.unsettled) == ["my-env"]
    del builder.answers[SettleContainer]
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(run_base(host))
        await until(lambda: not host.environments.unsettled)
        loop.cancel()
    assert len(builder.of(SettleContainer)) == 2


async def test_a_version_that_is_being_removed_stays_so_when_it_is_removed_once_more(host, boss, builder):
    await package(host, boss)
    version = host.environments.catalog.find("my-env:1")
    await removal.mark(host, [version], by(boss))
    with pytest.raises(Conflict, match="being removed already"):
        await removal.mark(host, [version], by(boss))
    assert host.environments.catalog.get("my-env:1") is None
    await removal.take_away(host, [version])
    with pytest.raises(Conflict):
        await removal.mark(host, [version], by(boss))
    assert host.environments.catalog.all() == []


async def test_a_name_at_which_something_short_is_at_work_holds_up_no_other(host, boss, builder):
    await package(host, boss)
    await package(host, boss, "other")
    await removal.mark(host, host.environments.catalog.of("other"), by(boss))
    host.environments.unsettled["my-env"] = wire_version(host.environments.catalog.find("my-env"))
    with host.environments.operations.claim("my-env"):
        await builder_connected(host, builder.peer.member)
    assert host.environments.catalog.of("other") == []
