"""Tasks found by what people call them: on both databases alike."""

from kohakuriver.store.models import TaskRow
from kohakuriver.store.tasks import find_tasks, task_of_array
from kohakuriver.store.write import insert_many


async def fill(store, rows):
    """Two tasks and an array of the person 1, and newer ones of the same names that the person 2 has."""
    names = ["train", "Train", "sweep[0]", "sweep[1]"]
    mine = [rows.task_values(10 + n, name=name, owner=1) for n, name in enumerate(names)]
    others = [rows.task_values(20 + n, name=names[n % 4], owner=2) for n in range(40)]
    await store.writer.write([rows.person(2), insert_many(TaskRow, [*mine, *others])])


async def test_a_name_means_the_newest_of_ones_own_and_else_the_newest_of_all(store, rows):
    await fill(store, rows)
    assert [task.id for task in await find_tasks(store.reader, "train", owner=1)] == [10]
    assert [task.id for task in await find_tasks(store.reader, "Train", owner=1)] == [11]
    assert [task.id for task in await find_tasks(store.reader, "train", owner=3)] == [56]
    assert (await task_of_array(store.reader, "sweep", owner=1)).id == 13
    assert (await task_of_array(store.reader, "sweep", owner=3)).id == 59
    assert await task_of_array(store.reader, "Sweep", owner=1) is None
    assert await task_of_array(store.reader, "swee_", owner=1) is None


async def test_what_no_task_can_be_called_finds_none(store, rows):
    await fill(store, rows)
    for text in ("x" * 1000, "", "a\0b", "\N{SNOWMAN}"):
        assert await find_tasks(store.reader, text, owner=1) == []
        assert await task_of_array(store.reader, text, owner=1) is None
