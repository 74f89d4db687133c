"""Submit: all or nothing, once for a key, never beyond the limit, and a word about everything that could never run."""

import asyncio
from dataclasses import replace

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.domain.tasks import Status
from kohakuriver.errors import Conflict, Invalid, NeverFits, NotAllowed, NotFound, QuotaExceeded, StorageFull, TooLarge
from kohakuriver.host import control
from kohakuriver.host.owners import Person
from kohakuriver.host.submit import submit_tasks
from kohakuriver.store.models import EventRow, IdempotencyRow, TaskRow
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import GIB, add_node
from kohakuriver.wire import api

from .kit import agree, stored, submit, told


async def nothing_stored(host):
    assert await host.store.reader.of(TaskRow).all().count() == 0
    assert await host.store.reader.of(IdempotencyRow).all().count() == 0
    assert await host.store.reader.of(EventRow).filter(what="submitted").count() == 0
    assert list(host.board.all()) == []


async def test_a_submit_is_stored_before_it_is_answered_with_who_asked(host, ann):
    (task,) = await submit(host, ann, command=["echo", "hi"], name="cafe\u0301")
    found = await stored(host, task)
    assert (found.status, found.owner, found.spec.argv) == (Status.PENDING, ann.id, ("echo", "hi"))
    # the name is kept in one form, so that it is found however it is typed
    assert found.name == "caf\u00e9"
    assert await told(host, task) == ["submitted"]
    await agree(host)


async def test_targets_and_copies_make_one_batch(host, ann):
    for name in ("node1", "node2"):
        await add_node(host, name)
    tasks = await submit(host, ann, targets=["node1", "node2"], copies=3)
    assert len(set(tasks)) == 6
    found = [await stored(host, task) for task in tasks]
    assert {task.batch for task in found} == {tasks[0]}
    assert [task.spec.target.node for task in found] == ["node1"] * 3 + ["node2"] * 3


@pytest.mark.parametrize(
    ("fields", "error", "field", "words"),
    [
        ({"targets": ["node1", "ghost"]}, NotFound, "targets", "ghost"),
        ({"targets": ["node1", "node1:7"]}, NeverFits, "targets", "7"),
        ({"targets": ["node1::0"]}, NeverFits, "targets", "GPU"),
        ({"targets": ["NODE 1"]}, Invalid, "target", "not a node name"),
        ({"cores": 5}, NeverFits, None, "needs 5 cores; the most is 4 cores on node1"),
        ({"memory": 9 * GIB}, NeverFits, None, "needs 1 core and 9 GiB; the most is 4 cores, 8 GiB on node1"),
        ({"backend": "docker"}, NeverFits, None, "docker"),
        ({"image": "debian:12"}, Invalid, "image", "runs images"),
        ({"container": "torch"}, Invalid, "image", "runs images"),
        ({"command": []}, Invalid, "command", "what shall run"),
        ({"command": [""]}, Invalid, "command[0]", "empty"),
        ({"command": ["a", "b\0c"]}, Invalid, "command[1]", "NUL"),
        ({"env": {"A": "\0"}}, Invalid, "env.A", "NUL"),
        ({"secrets": {"A": "s3cret\0"}}, Invalid, "secrets.A", "NUL"),
        ({"script": "x\0"}, Invalid, "script", "NUL"),
        ({"workdir": "/\0"}, Invalid, "workdir", "NUL"),
        ({"workdir": "tmp"}, Invalid, "workdir", "absolute"),
        ({"env": {"KOHAKURIVER_TASK_ID": "1"}}, Invalid, "env.KOHAKURIVER_TASK_ID", "set by the cluster"),
        ({"secrets": {"KOHAKURIVER_X": "1"}}, Invalid, "env.KOHAKURIVER_X", "set by the cluster"),
        ({"env": {"A": "1"}, "secrets": {"A": "2"}}, Invalid, "secrets.A", "openly and as a secret"),
        ({"pin": True, "cores": 0}, Invalid, "cores", "number of cores"),
        ({"name": "a\u202eb"}, Invalid, "name", "U+202E"),
        ({"name": "123"}, Invalid, "name", "digits"),
        ({"script": "x" * 200_000}, TooLarge, "script", "131072"),
        ({"options": {"x": "y" * 200_000}}, TooLarge, "command", "131072"),
        ({"targets": ["node1"] * 256, "copies": 5000}, Invalid, "copies", "too many"),
        ({"script": "x" * 100_000, "copies": 5000}, TooLarge, "copies", "put big scripts into files"),
    ],
)  # fmt: skip
async def test_what_could_never_run_is_refused_with_the_field_and_nothing_is_stored(
    host, ann, node, fields, error, field, words
):
    with pytest.raises(error) as refused:
        await submit(host, ann, key="k", **fields)
    assert type(refused.value) is error
    assert refused.value.field == field
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value) + str(refused.value.value)
    await nothing_stored(host)


async def test_one_bad_target_of_several_stores_none(host, ann, node):
    with pytest.raises(NotFound):
        await submit(host, ann, targets=["node1", "node9"], copies=10)
    await nothing_stored(host)


async def test_an_offline_node_could_still_take_it(host, ann):
    await add_node(host, "away")
    (task,) = await submit(host, ann, targets=["away"], cores=1000)
    assert host.board.get(task).status is Status.PENDING


async def test_a_viewer_may_not_submit(host):
    eve = await add_account(host, "eve", Role.VIEWER)
    with pytest.raises(NotAllowed):
        await submit(host, eve)
    await nothing_stored(host)


async def test_a_hundred_requests_with_one_key_at_once_make_one_task(host, ann):
    answers = await asyncio.gather(*(submit(host, ann, key="k", body=b"same") for _ in range(100)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert await host.store.reader.of(TaskRow).all().count() == 1
    assert await submit(host, ann, key="k", body=b"same") == answers[0]
    assert (await told(host, answers[0][0])).count("submitted") == 1
    await agree(host)


async def test_the_same_key_at_once_is_one_answer_also_where_the_limit_allows_one_task(host, ann):
    host.owners.learn(ann.id, Person(name="ann", most_open=1))
    answers = await asyncio.gather(*(submit(host, ann, key="k", body=b"same") for _ in range(20)))
    assert len({tuple(answer) for answer in answers}) == 1


async def test_a_key_belongs_to_one_body_and_to_one_person(host, ann):
    bob = await add_account(host, "bob")
    (one,) = await submit(host, ann, key="k", body=b"one")
    with pytest.raises(Conflict) as refused:
        await submit(host, ann, key="k", body=b"two")
    assert refused.value.field == "Idempotency-Key"
    (two,) = await submit(host, bob, key="k", body=b"two")
    assert one != two


async def test_different_bodies_with_one_key_at_once_store_one_of_them(host, ann):
    requests = (submit(host, ann, key="k", body=b"%d" % (number % 2)) for number in range(40))
    answers = await asyncio.gather(*requests, return_exceptions=True)
    stored_ = {tuple(answer) for answer in answers if isinstance(answer, list)}
    assert len(stored_) == 1
    assert {type(answer) for answer in answers if not isinstance(answer, list)} == {Conflict}
    assert await host.store.reader.of(TaskRow).all().count() == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "caf\u00e9", "a\nb", "\0"])
async def test_a_key_that_is_none_is_refused(host, ann, key):
    with pytest.raises(Invalid):
        await submit(host, ann, key=key)
    await nothing_stored(host)


async def test_the_limit_is_never_exceeded_however_many_submit_at_once(host, ann):
    host.owners.learn(ann.id, Person(name="ann", most_open=10))
    requests = (submit(host, ann, copies=1 + number % 3) for number in range(60))
    answers = await asyncio.gather(*requests, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    made = sum(len(answer) for answer in answers if isinstance(answer, list))
    assert made == host.board.open_of(ann.id) == 10
    assert len(refused) + sum(isinstance(answer, list) for answer in answers) == 60
    assert "at most 10" in str(refused[0])
    await agree(host)


async def test_the_end_of_a_task_makes_room_for_the_next(host, ann):
    host.owners.learn(ann.id, Person(name="ann", most_open=1))
    (task,) = await submit(host, ann)
    with pytest.raises(QuotaExceeded):
        await submit(host, ann)
    await control.kill(host, ann, str(task))
    await submit(host, ann)


async def test_a_batch_beyond_the_limit_stores_none_of_it(host, ann):
    host.owners.learn(ann.id, Person(name="ann", most_open=4))
    with pytest.raises(QuotaExceeded) as refused:
        await submit(host, ann, copies=5)
    assert (refused.value.field, refused.value.value, refused.value.limit) == ("copies", "5", "4")
    await nothing_stored(host)


async def test_a_full_disk_refuses_before_anything_is_stored(host, ann):
    host.settings = replace(host.settings, disk_floor=1 << 62)
    with pytest.raises(StorageFull):
        await submit(host, ann)
    await nothing_stored(host)


async def test_a_store_that_cannot_write_stores_nothing_and_remembers_nothing(host, ann, monkeypatch):
    with monkeypatch.context() as patch:

        async def full(statements):
            raise StorageFull

        patch.setattr(host.store.writer, "write", full)
        with pytest.raises(StorageFull):
            await submit(host, ann, key="k")
    await nothing_stored(host)
    assert len(await submit(host, ann, key="k")) == 1


async def test_where_approval_is_asked_for_a_users_task_waits_for_an_operator(host, ann, boss, node):
    host.settings = replace(host.settings, approve_users=True)
    (one,) = await submit(host, ann)
    (two,) = await submit(host, ann)
    (own,) = await submit(host, boss)
    await host.scheduler.tick()
    statuses = [host.board.get(task).status for task in (one, two, own)]
    assert statuses == [Status.PENDING_APPROVAL, Status.PENDING_APPROVAL, Status.ASSIGNED]
    with pytest.raises(NotAllowed):
        await control.approve(host, ann, str(one))
    await control.approve(host, boss, str(one))
    await control.reject(host, boss, str(two), "too big")
    await host.scheduler.tick()
    assert host.board.get(one).status is Status.ASSIGNED
    final = await stored(host, two)
    assert (final.status, final.exit.reason) == (Status.REJECTED, "too big")
    assert await told(host, two) == ["submitted", "rejected"]


async def test_container_null_means_a_backend_without_images(host, ann, node):
    (task,) = await submit(host, ann, container="NULL")
    found = await stored(host, task)
    assert (found.spec.backend, found.spec.container) == ("process", None)


async def test_the_digest_is_of_the_body_as_it_came(host, ann):
    request = api.SubmitTask(command=["true"])
    first = await submit_tasks(host, ann, request, key="k", body=b'{"command":["true"]}')
    assert await submit_tasks(host, ann, request, key="k", body=b'{"command":["true"]}') == first
    with pytest.raises(Conflict):
        await submit_tasks(host, ann, request, key="k", body=b'{"command": ["true"]}')
