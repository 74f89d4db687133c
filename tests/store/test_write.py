"""The writer on both databases: what is told is stored, what fails hurts nobody else."""

import asyncio
from datetime import UTC, datetime

import pytest

from kohakuriver.errors import StoreError
from kohakuriver.store.columns import micros, moment
from kohakuriver.store.models import EventRow, IdentityRow, MetaRow, NodeRow, ReservationRow, TaskRow, UserRow
from kohakuriver.store.write import (
    AtMost,
    ConstraintFailed,
    Plus,
    WrongCount,
    delete,
    insert,
    insert_if,
    insert_many,
    lock,
    update,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


async def test_a_statement_and_a_model_read_the_same(store, rows):
    await store.writer.write([rows.task(10, submitted=NOW, exit_oom=True, memory=1 << 40)])
    row = await store.reader.of(TaskRow).get(id=10)
    assert (row.submitted, row.exit_oom, row.memory, row.started) == (micros(NOW), True, 1 << 40, None)
    assert moment(row.submitted) == NOW
    assert (row.owner_id, row.priority, row.spec) == (1, 0, '{"argv":["true"]}')


async def test_counts_come_back_in_order(store, rows):
    many = insert_many(TaskRow, [rows.task_values(id) for id in range(10, 15)])
    change = update(TaskRow, where={"id__in": [10, 11, 99]}, set={"name": "x"}, expect=None)
    assert await store.writer.write([many, change, delete(TaskRow, where={"id__gt": 12})]) == (5, 2, 2)
    assert await store.reader.of(TaskRow).count() == 3


async def test_no_rows_are_no_statement_of_the_database(store):
    assert await store.writer.write([insert_many(EventRow, [])]) == (0,)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"id": 11}, [11]),
        ({"id__ne": 11}, [10, 12]),
        ({"id__in": [10, 12]}, [10, 12]),
        ({"id__in": []}, []),
        ({"id__lt": 11}, [10]),
        ({"id__lte": 11}, [10, 11]),
        ({"id__gt": 11}, [12]),
        ({"id__gte": 11}, [11, 12]),
        ({"name": None}, [10, 11]),
        ({"name__ne": None}, [12]),
        ({"name__isnull": True}, [10, 11]),
        ({"name__isnull": False}, [12]),
        ({"owner": 1, "owner_id": 1, "name": "z"}, [12]),
    ],
)
async def test_where_chooses_rows(store, rows, where, ids):
    await store.writer.write([rows.task(10), rows.task(11), rows.task(12, name="z")])
    await store.writer.write([update(TaskRow, where=where, set={"batch": 7}, expect=len(ids))])
    assert [row.id for row in await store.reader.of(TaskRow).filter(batch=7).order_by("id")] == ids


async def test_plus_counts_from_what_stands_there(store):
    change = update(NodeRow, where={"id": 1, "allocation": 0}, set={"allocation": Plus("allocation", 1)})
    await store.writer.write([change])
    with pytest.raises(WrongCount) as caught:
        await store.writer.write([change])
    assert (caught.value.index, caught.value.count, caught.value.code) == (0, 0, "moved_on")
    assert (await store.reader.of(NodeRow).get(id=1)).allocation == 1


async def test_a_wrong_count_undoes_the_whole_list_and_says_which(store, rows):
    with pytest.raises(WrongCount) as caught:
        await store.writer.write([rows.task(10), update(TaskRow, where={"id": 9}, set={"batch": 1})])
    assert caught.value.index == 1
    assert await store.reader.of(TaskRow).count() == 0


@pytest.mark.parametrize(
    ("make", "kind", "columns"),
    [
        (lambda rows: rows.person(2, name="person1"), "unique", ("name",)),
        (lambda rows: rows.person(1, name="other"), "unique", ("id",)),
        (lambda rows: rows.node(2, name="node1"), "unique", ("name",)),
        (lambda rows: insert(IdentityRow, id=1, user=77, provider="local", subject="x"), "foreign_key", None),
        (lambda rows: rows.person(2, name=None), "not_null", ("name",)),
    ],
)
async def test_a_constraint_names_its_kind_and_columns(store, rows, make, kind, columns):
    with pytest.raises(ConstraintFailed) as caught:
        await store.writer.write([rows.task(10), make(rows)])
    assert (caught.value.index, caught.value.kind) == (1, kind)
    assert columns is None or caught.value.columns == columns
    assert await store.reader.of(TaskRow).count() == 0


async def test_nobody_with_work_is_deleted(store, rows):
    await store.writer.write([rows.task(10)])
    with pytest.raises(ConstraintFailed):
        await store.writer.write([delete(UserRow, where={"id": 1})])


async def test_a_name_is_live_once_and_free_after_revocation(store, rows):
    await store.writer.write([update(NodeRow, where={"id": 1}, set={"state": "revoked"}), rows.node(2, name="node1")])
    assert await store.reader.of(NodeRow).filter(name="node1").count() == 2


async def test_a_whole_device_is_held_once_and_a_shared_one_often(store, rows):
    def held(id, share):
        device = {"node": 1, "device": "0000:01:00.0", "share_milli": share}
        return insert(ReservationRow, id=f"{id}.1/gpu", task=id, generation=1, **device)

    await store.writer.write([rows.task(10), rows.task(11), held(10, 1000)])
    with pytest.raises(ConstraintFailed):
        await store.writer.write([held(11, 1000)])
    await store.writer.write([delete(ReservationRow, where={"task": 10}), held(10, 500), held(11, 500)])


async def test_a_limit_holds_within_the_transaction(store, rows):
    def submit(id):
        within = AtMost(TaskRow, {"owner": 1, "status__in": ["pending", "running"]}, adding=1, limit=2)
        return [lock(UserRow, id=1), insert_if(TaskRow, rows.task_values(id), within)]

    results = await asyncio.gather(*(store.writer.write(submit(id)) for id in range(10, 20)), return_exceptions=True)
    assert sorted(map(str, results))[:2] == ["(1, 1)", "(1, 1)"]
    assert [result.index for result in results if isinstance(result, WrongCount)] == [1] * 8
    assert await store.reader.of(TaskRow).count() == 2


async def test_a_lock_of_nothing_is_a_wrong_count(store):
    with pytest.raises(WrongCount):
        await store.writer.write([lock(UserRow, id=99)])


async def test_a_bad_member_does_not_hurt_those_who_are_committed_with_it(store, rows):
    def member(id):
        if id % 3 == 0:
            return [rows.task(id), rows.person(id, name="person1")]
        if id % 3 == 1:
            return [rows.task(id), update(TaskRow, where={"id": -1}, set={"batch": 0})]
        return [rows.task(id), insert(EventRow, id=id, at=NOW, what="submitted", actor="test", task=id)]

    ids = range(100, 400)
    results = await asyncio.gather(*(store.writer.write(member(id)) for id in ids), return_exceptions=True)
    good = {id for id in ids if id % 3 == 2}
    assert {id for id, result in zip(ids, results, strict=True) if result == (1, 1)} == good
    assert {row.id for row in await store.reader.of(TaskRow)} == good
    assert {row.id for row in await store.reader.of(EventRow)} == good
    kinds = {type(result) for id, result in zip(ids, results, strict=True) if id not in good}
    assert kinds == {ConstraintFailed, WrongCount}


async def test_an_impossible_value_is_its_senders_fault_alone(store, rows):
    bad, good = await asyncio.gather(
        store.writer.write([rows.task(1 << 80)]), store.writer.write([rows.task(10)]), return_exceptions=True
    )
    assert isinstance(bad, StoreError)
    assert good == (1,)


async def test_cancelled_callers_leave_whole_members_and_no_acknowledged_row_missing(store, rows):
    """P13: thousands of callers, cancelled at every stage, some with a member that fails."""
    acknowledged: set[int] = set()
    refused: set[int] = set()

    async def call(id):
        pair = insert_many(EventRow, [{"id": n, "at": NOW, "what": "x", "actor": "t"} for n in (2 * id, 2 * id + 1)])
        last = [rows.person(id, name="person1")] if id % 7 == 0 else []
        try:
            await store.writer.write([pair, *last])
            acknowledged.add(id)
        except ConstraintFailed:
            refused.add(id)

    async with asyncio.TaskGroup() as group:
        for start in range(1000, 4000, 100):
            tasks = [group.create_task(call(id)) for id in range(start, start + 100)]
            for turn, task in enumerate(tasks):
                if turn % 10 == 0:
                    await asyncio.sleep(0)
                if turn % 2 == 0:
                    task.cancel()
    stored = {row["id"] for row in await store.reader.of(EventRow).values("id")}
    assert {2 * id for id in acknowledged} <= stored
    assert all((2 * id in stored) == (2 * id + 1 in stored) for id in range(1000, 4000))
    assert not {id for id in range(1000, 4000) if id % 7 == 0 and 2 * id in stored}
    assert acknowledged
    assert refused
    assert await store.writer.write([rows.task(1)]) == (1,)


async def test_closing_commits_what_waits_and_refuses_what_comes_later(place, reopen, rows):
    store = await reopen(place)
    waiting = asyncio.gather(*(store.writer.write([rows.person(id)]) for id in range(10, 60)))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting == [(1,)] * 50
    with pytest.raises(StoreError, match="closing"):
        await store.writer.write([rows.person(99)])
    await store.close()
    again = await reopen(place)
    assert await again.reader.of(UserRow).count() == 50
    await again.close()


async def test_a_host_that_was_replaced_writes_nothing_more(store, rows):
    await store.writer.write([update(MetaRow, where={"key": "epoch"}, set={"value": "999"})])
    results = await asyncio.gather(
        *(store.writer.write([rows.task(id)]) for id in range(10, 15)), return_exceptions=True
    )
    assert all(isinstance(result, StoreError) and "another host" in result.message for result in results)
    assert await store.reader.of(TaskRow).count() == 0


def test_a_field_that_does_not_exist_is_found_before_the_database_is_asked():
    with pytest.raises(ValueError, match="colour"):
        update(TaskRow, where={"id": 1}, set={"colour": "red"})
    with pytest.raises(ValueError, match="needs a value"):
        insert(TaskRow, id=1)
    with pytest.raises(ValueError, match="operator"):
        delete(TaskRow, where={"id__like": 1})


@pytest.mark.parametrize(
    "poison", ["\ud800", ["a", "list"], object(), 10**40], ids=["surrogate", "list", "object", "int"]
)
async def test_a_value_that_no_driver_takes_hurts_nobody_else(store, rows, poison):
    bad, good = await asyncio.gather(
        store.writer.write([rows.person(2, display=poison)]),
        store.writer.write([rows.task(10)]),
        return_exceptions=True,
    )
    assert isinstance(bad, StoreError)
    assert good == (1,)
