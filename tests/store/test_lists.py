"""Lists: every page is complete and in order, and every sort and filter walks an index."""

import pytest

from kohakuriver.errors import Invalid
from kohakuriver.store.lists import SORTS, list_rows
from kohakuriver.store.models import TaskRow
from kohakuriver.store.write import insert_many

WAYS = [f"{sign}{sort}" for sort in SORTS for sign in ("", "-")]


async def fill(store, rows, number):
    statuses = ("pending", "running", "completed")
    values = [
        rows.task_values(
            1000 + n,
            batch=n // 10,
            name=f"name{n % 7}" if n % 3 else None,
            status=statuses[n % 3],
            node=1 if n % 2 else None,
            priority=n % 5,
            submitted=10**15 + n,
            started=10**15 + n * 7919 % 1000 if n % 4 else None,
            finished=10**15 + n * 104729 % 1000 if n % 5 else None,
        )
        for n in range(number)
    ]
    await store.writer.write([insert_many(TaskRow, values)])
    return values


async def pages(reader, limit, **more):
    cursor = None
    while True:
        tasks, cursor = await list_rows(reader, cursor=cursor, limit=limit, **more)
        yield tasks
        if cursor is None:
            return


async def test_pages_hold_every_row_once_and_in_order(store, rows):
    values = await fill(store, rows, 53)
    by_id = {value["id"]: value for value in values}
    for sort in WAYS:
        found = [task async for page in pages(store.reader, 7, sort=sort) for task in page]
        assert sorted(task.id for task in found) == list(by_id), sort
        column, down = sort.removeprefix("-"), sort.startswith("-")
        keys = [(by_id[task.id].get(column), task.id) for task in found]
        filled = [key for key in keys if key[0] is not None]
        assert keys[: len(filled)] == filled, sort
        assert filled == sorted(filled, reverse=down), sort


async def test_filters_narrow_every_sort(store, rows):
    values = await fill(store, rows, 53)
    narrow = {"statuses": ["running", "completed"], "owner": 1, "node": 1}
    wanted = [value["id"] for value in values if value["status"] != "pending" and value["node"] == 1]
    for sort in WAYS:
        found = [task.id async for page in pages(store.reader, 4, sort=sort, **narrow) for task in page]
        assert sorted(found) == wanted, sort


async def test_a_cursor_of_another_list_is_refused(store, rows):
    await fill(store, rows, 9)
    _, cursor = await list_rows(store.reader, limit=3, sort="name")
    for bad, sort in ((cursor, "-id"), ("nonsense", "name"), ("WyI=", "name"), ("x" * 2000, "name")):
        with pytest.raises(Invalid):
            await list_rows(store.reader, limit=3, sort=sort, cursor=bad)
    with pytest.raises(Invalid, match="sorted"):
        await list_rows(store.reader, sort="colour")


@pytest.mark.parametrize(
    "narrow", [{}, {"statuses": ["pending"]}, {"statuses": ["pending", "running"]}, {"owner": 1}, {"node": 1}]
)
async def test_no_page_sorts_or_scans_the_table(sqlite_store, rows, monkeypatch, narrow):
    await fill(sqlite_store, rows, 53)
    reader, asked = sqlite_store.reader, []

    async def remember(sql, values):
        asked.append((sql, values))
        return await type(reader).rows(reader, sql, values)

    monkeypatch.setattr(reader, "rows", remember)
    for sort in WAYS:
        _, cursor = await list_rows(reader, limit=3, sort=sort, **narrow)
        await list_rows(reader, limit=3, sort=sort, cursor=cursor, **narrow)
    monkeypatch.undo()
    assert len(asked) >= 2 * len(WAYS)
    for sql, values in asked:
        plan = [row["detail"] for row in await reader.rows(f"EXPLAIN QUERY PLAN {sql}", values)]
        table = [step for step in plan if "tasks" in step]
        assert table
        # a walk along the ids themselves needs no index
        assert all("USING" in step or 'ORDER BY "id"' in sql for step in table), (sql, plan)
        # where several statuses are merged, the page of each is sorted again, never the table
        assert sum("TEMP B-TREE" in step for step in plan) == plan.count("SCAN part"), (sql, plan)
