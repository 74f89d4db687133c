"""Environments on the host, with a builder that answers as told: how versions come to be, are used, and go."""

import asyncio
from dataclasses import replace

import pytest

from kohakuriver.errors import Conflict, Invalid, Malformed, NotAllowed, NotFound, PluginError
from kohakuriver.host.environments import containers, images, orders, removal, versions
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.environments.connected import builder_connected
from kohakuriver.store.environments import all_environments, all_versions
from kohakuriver.testing.builders import DIGEST, building, published
from kohakuriver.testing.hosts import add_account, opened_host
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import link
from kohakuriver.wire.environments import (
    CreateContainer,
    DeleteContainer,
    ImportVersion,
    PackageContainer,
    RemoveVersion,
    SettleContainer,
    Sweep,
)
from kohakuriver.wire.envs_api import DONE, FAILED, BuildQuery, NewContainer, PackageAsk, ReferenceAsk

from .env_kit import ended, told, until
from .kit import exited, submit


@pytest.fixture
async def builder(host):
    async with building(await add_node(host, "builder")) as builder:
        await builder.heard(Sweep)
        yield builder


async def package(host, actor, name="my-env", **ask):
    return await ended(host, await orders.package_container(host, actor, name, PackageAsk(**ask)))


async def pieces(*data):
    for one in data:
        yield one


async def test_a_container_becomes_a_version_and_is_made_anew_of_it(host, boss, builder):
    operation = await package(host, boss, note="with numpy")
    assert (operation.state, operation.number, operation.moved) == (DONE, 1, 5)
    (version,) = await all_versions(host.store.reader)
    assert (version.name, version.digest, version.author, version.note) == ("my-env:1", DIGEST, "boss", "with numpy")
    assert host.environments.catalog.find("my-env") == version
    assert (await builder.heard(SettleContainer)).version.number == 1
    (event,) = await told(host, "environment_version")
    assert (event["environment"], event["number"], event["digest"]) == ("my-env", 1, DIGEST)
    assert [one["container"] for one in await told(host, "environment_package")] == ["my-env"]


async def test_versions_outlive_the_host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        boss = await add_account(host, "boss")
        boss = replace(boss, role=type(boss.role).OPERATOR)
        async with building(await add_node(host, "builder")):
            await package(host, boss)
        before = host.environments.catalog.all()
    async with opened_host(tmp_path, clock=clock) as host:
        assert host.environments.catalog.all() == before
        assert host.environments.catalog.highest("my-env") == 1


async def test_a_number_that_came_to_nothing_is_not_given_again(host, boss, builder):
    async def fails(talk):
        await talk.fail("storage_full", "no room on the builder")

    builder.answers[PackageContainer] = fails
    operation = await package(host, boss)
    assert (operation.state, operation.error.code) == (FAILED, "storage_full")
    assert await all_versions(host.store.reader) == []
    assert builder.asked[-1] == Sweep(), "the container is to be as before"
    del builder.answers[PackageContainer]
    assert (await package(host, boss)).number == 2
    assert await all_environments(host.store.reader) == {"my-env": 2}


WRONG = [
    {"environment": "other"}, {"number": 9}, {"digest": "sha256:short"}, {"locator": "x" * 5000},
    {"blobs": ["sha256:" + "0" * 64]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=[next(iter(one)) for one in WRONG])
async def test_an_answer_that_does_not_fit_makes_no_version(host, boss, builder, wrong):
    builder.answers[PackageContainer] = lambda talk: talk.result(published(talk.ask, **wrong))
    operation = await package(host, boss)
    assert isinstance(operation.error, PluginError)
    assert await all_versions(host.store.reader) == []


async def test_a_builder_that_breaks_off_is_a_failure_that_may_be_tried_again(host, boss, builder):
    async def ends(talk):
        await talk.tell("half way")

    builder.answers[PackageContainer] = ends
    operation = await package(host, boss)
    assert (operation.error.code, operation.note) == ("unreachable", "half way")
    del builder.answers[PackageContainer]
    assert (await package(host, boss)).state == DONE


async def test_one_thing_at_a_time_is_done_to_a_name(host, boss, builder):
    going, go = asyncio.Event(), asyncio.Event()

    async def waits(talk):
        going.set()
        await go.wait()
        await talk.result(published(talk.ask))

    builder.answers[PackageContainer] = waits
    view = await orders.package_container(host, boss, "my-env", PackageAsk())
    await going.wait()
    with pytest.raises(Conflict, match="under way"):
        await orders.package_container(host, boss, "my-env", PackageAsk())
    with pytest.raises(Conflict, match="under way"):
        await containers.delete_container(host, boss, "my-env")
    other = await containers.create_container(host, boss, NewContainer(name="other", image="debian:12"))
    assert (await ended(host, other)).state == DONE
    go.set()
    assert (await ended(host, view)).state == DONE
    assert builder.of(DeleteContainer) == []


async def test_progress_is_told_to_followers_and_as_events(host, boss, builder):
    with host.changes.subscribe() as changes:
        operation = await package(host, boss)
        seen = [view async for view in host.environments.operations.follow(operation)]
        kinds = set()
        while ("operation", DONE) not in kinds:
            change = await changes.next()
            kinds.add((change.kind, change.status))
    assert [view.state for view in seen] == [DONE]
    assert (seen[0].note, seen[0].done, seen[0].total) == ("exporting", 1, 2)


async def test_settling_waits_for_the_builder_to_come_back(host, boss, builder):
    async def ends(talk):
        talk.end.close()

    builder.answers[SettleContainer] = ends
    assert (await package(host, boss)).state == DONE
    del builder.answers[SettleContainer]
    await builder.peer.drop()
    await builder.peer.connect()
    await builder.heard(SettleContainer, 2)
    await until(lambda: not host.environments.unsettled)


async def test_a_container_that_was_deleted_is_not_made_anew_later(host, boss, builder):
    async def ends(talk):
        talk.end.close()

    builder.answers[SettleContainer] = ends
    await package(host, boss)
    await containers.delete_container(host, boss, "my-env")
    assert host.environments.unsettled == {}


async def test_a_builder_that_connects_is_told_every_version(host, boss, builder):
    await package(host, boss)
    await builder.peer.drop()
    await builder.peer.connect()
    sweep = await builder.heard(Sweep, 2)
    assert [(one.environment, one.number, one.digest) for one in sweep.versions] == [("my-env", 1, DIGEST)]


async def test_nothing_is_swept_while_a_version_is_being_made(host, boss, builder):
    async with host.environments.contents.publishing(builder.peer.member.id):
        await builder_connected(host, builder.peer.member)
    assert len(builder.of(Sweep)) == 1


async def test_a_task_is_given_the_version_that_was_newest_when_it_was_submitted(host, ann, boss, builder):
    await package(host, boss)
    (first,) = await submit(host, ann, container="my-env")
    await package(host, boss)
    (second,) = await submit(host, ann, container="my-env")
    (third,) = await submit(host, ann, container="my-env:1")
    assert [host.board.get(task).spec.container for task in (first, second, third)] == [
        "my-env:1",
        "my-env:2",
        "my-env:1",
    ]
    await host.scheduler.tick()
    assign = await builder.peer.pipe.heard(link.Assign)
    assert (assign.container, assign.environment.number, assign.environment.digest) == ("my-env:1", 1, DIGEST)


@pytest.mark.parametrize(
    ("name", "words"), [("my-env:7", r"no version 7; it has 1"), ("torch", "no environment torch; there are my-env")]
)
async def test_what_is_not_there_is_told_with_what_is(host, ann, boss, builder, name, words):
    await package(host, boss)
    with pytest.raises(NotFound, match=words):
        await submit(host, ann, container=name)


async def test_a_version_that_a_task_is_to_run_in_stays(host, ann, boss, builder):
    await package(host, boss)
    (task,) = await submit(host, ann, container="my-env")
    with pytest.raises(Conflict, match=str(task)):
        await removal.remove_versions(host, boss, "my-env", 1)
    await host.scheduler.tick()
    await builder.peer.tell("accepted", host.board.get(task).attempt)
    await builder.peer.tell("started", host.board.get(task).attempt)
    await builder.peer.tell("exited", host.board.get(task).attempt, **exited())
    operation = await ended(host, await removal.remove_versions(host, boss, "my-env", 1))
    assert operation.state == DONE
    assert builder.of(RemoveVersion)[0].version.digest == DIGEST
    assert await all_versions(host.store.reader) == []
    assert (await package(host, boss)).number == 2


async def test_a_removal_that_breaks_off_goes_on_when_the_builder_comes_back(host, ann, boss, builder):
    await package(host, boss)

    async def away(talk):
        await talk.fail("backend_away", "the daemon does not answer")

    builder.answers[RemoveVersion] = away
    assert (await ended(host, await removal.remove_versions(host, boss, "my-env", None))).state == FAILED
    with pytest.raises(NotFound):
        await submit(host, ann, container="my-env")
    assert [one.removing for one in await all_versions(host.store.reader)] == [True]
    del builder.answers[RemoveVersion]
    await builder.peer.drop()
    await builder.peer.connect()
    await until(lambda: not host.environments.catalog.all())
    assert await all_versions(host.store.reader) == []


async def test_the_newest_are_kept_and_what_is_used(host, ann, boss, builder):
    host.settings = replace(host.settings, environment_versions_kept=2)
    await package(host, boss)
    await submit(host, ann, container="my-env")
    for _ in range(4):
        await package(host, boss)
    assert [one.number for one in host.environments.catalog.of("my-env")] == [5, 4, 1]
    assert [one.number for one in await all_versions(host.store.reader)] == [1, 4, 5]


async def test_an_upload_reaches_the_builder_as_it_came(host, boss, builder):
    got = []

    async def takes(talk):
        got.append(await talk.upload())
        await talk.result(published(talk.ask))

    builder.answers[ImportVersion] = takes
    view = await orders.import_version(host, boss, "my-env", "", pieces(b"a" * 300_000, b"", b"b"))
    assert (await ended(host, view)).state == DONE
    assert got == [b"a" * 300_000 + b"b"]


async def test_an_upload_that_breaks_off_makes_no_version(host, boss, builder):
    async def broken():
        yield b"half"
        raise Malformed("the body broke off")

    with pytest.raises(Malformed):
        await orders.build_version(host, boss, "my-env", BuildQuery(), broken())
    (operation,) = host.environments.operations.all()
    assert (await ended(host, operation.view())).error.code == "malformed"
    assert (await package(host, boss)).number == 2


async def test_a_builder_that_refuses_ends_the_upload(host, boss, builder):
    async def refuses(talk):
        await talk.fail("invalid", "the archive has a symlink out of itself")

    async def endless():
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    builder.answers[ImportVersion] = refuses
    with pytest.raises(Invalid, match="symlink"):
        await orders.import_version(host, boss, "my-env", "", endless())


async def test_containers_are_for_operators(host, ann, builder):
    with pytest.raises(NotAllowed):
        await containers.create_container(host, ann, NewContainer(name="a", image="debian:12"))
    with pytest.raises(NotAllowed):
        await package(host, ann)
    assert versions.list_environments(host, ann).items == []


@pytest.mark.parametrize(
    "new",
    [
        {"name": "a..b", "image": "debian:12"}, {"name": "a", "image": "--privileged"}, {"name": "a"},
        {"name": "a", "image": "debian", "environment": "b"},
    ],
)  # fmt: skip
async def test_what_cannot_be_a_container_is_refused_before_the_builder_is_asked(host, boss, builder, new):
    with pytest.raises(Invalid):
        await containers.create_container(host, boss, NewContainer(**new))
    assert builder.of(CreateContainer) == []


async def test_images_of_a_node_that_cannot_be_asked_do_not_hide_the_others(host, ann, builder):
    away = await add_node(host, "away")
    away.member.learn([], builder.peer.backends)
    (view,) = (await images.all_images(host, ann)).items
    assert (view.node, view.problem) == ("away", "away is not connected; try again when it is back")


async def test_without_a_builder_it_is_said_what_is_lacking(host, boss):
    with pytest.raises(NoBuilder, match="no node has a backend"):
        await orders.publish_reference(host, boss, "my-env", ReferenceAsk(image="debian:12"))


async def test_which_node_builds(host):
    parts = host.environments
    one, two = await add_node(host, "one"), await add_node(host, "two")
    for peer in (one, two):
        peer.member.learn([], [link.BackendInfo(name="boxes", capabilities=["CanEnvironments"])])
    with pytest.raises(NoBuilder, match=r"one, two .* `builder`"):
        parts.builder()
    parts.settings = replace(parts.settings, builder="two")
    assert parts.builder() is two.member
    parts.settings = replace(parts.settings, builder="", boot="here")
    one.member.boot = "here"
    assert parts.builder() is one.member
    parts.settings = replace(parts.settings, builder="three")
    with pytest.raises(NoBuilder, match="no such node"):
        parts.builder()
