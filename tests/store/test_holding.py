"""What an owner may hold, as the commit checks it: on both databases, and by two writers at once."""

import asyncio

import pytest

from kohakuriver.domain.limits import Limits
from kohakuriver.store.holding import within
from kohakuriver.store.models import ReservationRow, UserRow
from kohakuriver.store.write import WrongCount, insert, lock


def reserve(task, *, device=None, cpu=1000, memory=100):
    amounts = {"cpu_milli": 0, "memory": 0} if device else {"cpu_milli": cpu, "memory": memory}
    id = f"{task}.1/{device}" if device else f"{task}.1"
    return insert(ReservationRow, id=id, task=task, generation=1, node=1, device=device, share_milli=1000, **amounts)


@pytest.fixture
async def held(store, rows):
    """The person 1 holds two attempts: 3 cores, 200 bytes, one card; the person 2 holds much more."""
    await store.writer.write([rows.person(2), *(rows.task(id) for id in (10, 11, 12)), rows.task(20, owner=2)])
    mine = [reserve(10), reserve(11, cpu=2000), reserve(11, device="a")]
    await store.writer.write([*mine, reserve(20, cpu=10**6, memory=2**50), reserve(20, device="b")])
    return store


ENOUGH = [Limits(tasks=3), Limits(cores=4), Limits(memory=300), Limits(devices=1), Limits(tasks=3, cores=4, memory=300)]
LESS = [Limits(tasks=2), Limits(cores=3), Limits(memory=299), Limits(devices=0), Limits(tasks=9, cores=9, memory=299)]


@pytest.mark.parametrize("limits", ENOUGH)
async def test_what_is_within_the_limits_is_stored(held, limits):
    await held.writer.write([lock(UserRow, id=1), reserve(12), within(1, limits)])
    assert await held.reader.of(ReservationRow).filter(task_id=12).count() == 1


@pytest.mark.parametrize("limits", LESS)
async def test_one_more_than_that_is_not_and_nothing_is_left_of_it(held, limits):
    with pytest.raises(WrongCount, match="what user 1 may hold"):
        await held.writer.write([lock(UserRow, id=1), reserve(12), within(1, limits)])
    assert await held.reader.of(ReservationRow).filter(task_id=12).count() == 0


async def test_of_two_at_once_one_gets_the_last_place(held, rows):
    await held.writer.write([rows.task(13)])
    results = await asyncio.gather(
        *(
            held.writer.write([lock(UserRow, id=1), reserve(task), within(1, Limits(tasks=3))])
            for task in (12, 13)
        ),
        return_exceptions=True,
    )  # fmt: skip
    assert sorted(type(result).__name__ for result in results) == ["WrongCount", "tuple"]
