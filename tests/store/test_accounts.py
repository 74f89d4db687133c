"""People and how providers know them, as values."""

from datetime import UTC, datetime, timedelta

import pytest

from kohakuriver.store.accounts import (
    DISABLED,
    INVITED,
    User,
    all_users,
    another_admin,
    any_user,
    find_identity,
    new_user,
    user_by_id,
    user_named,
    users_after,
)
from kohakuriver.store.models import IdentityRow, UserRow
from kohakuriver.store.open import open_store
from kohakuriver.store.write import ConstraintFailed, insert, update

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def ann(**more):
    return User(**{"id": 7, "name": "ann", "role": "user", "state": INVITED, "created": NOW, **more})


LIMITS = {"most_running": 3, "most_cores": 8, "most_memory": 2**40, "most_devices": 0}


@pytest.mark.parametrize("more", [{}, {"display": "Ann B.", "most_open": 0}, {"most_open": 5}, LIMITS])
async def test_an_account_is_read_as_it_was_written(store, more):
    await store.writer.write([new_user(ann(**more))])
    assert await user_by_id(store.reader, 7) == ann(**more)
    assert await user_named(store.reader, "ann") == ann(**more)
    assert ann(**more) in await all_users(store.reader)


async def test_a_name_is_given_once(store):
    await store.writer.write([new_user(ann())])
    with pytest.raises(ConstraintFailed):
        await store.writer.write([new_user(ann(id=8, state=DISABLED))])
    assert await user_by_id(store.reader, 8) is None


@pytest.mark.parametrize("id", [0, -1, 2, 2**63, 10**30])
async def test_no_number_is_too_odd_for_an_id(store, id):
    assert await user_by_id(store.reader, id) is None


@pytest.mark.parametrize("name", ["", "nobody", "Person1", "x" * 33, "x" * 10_000])
async def test_no_text_is_too_odd_for_a_name(store, name):
    assert await user_named(store.reader, name) is None


async def test_a_page_of_accounts_goes_on_after_a_name(store):
    await store.writer.write([new_user(ann(id=n, name=f"ann{n}")) for n in range(2, 7)])
    first = await users_after(store.reader, "", 3)
    assert [user.name for user in first] == ["ann2", "ann3", "ann4"]
    assert [user.name for user in await users_after(store.reader, "ann4", 9)] == ["ann5", "ann6", "person1"]
    assert await users_after(store.reader, "person1" * 1000, 9) == []


async def test_an_empty_store_has_nobody(place):
    store = await open_store(place, now=NOW)
    try:
        assert not await any_user(store.reader)
        assert await all_users(store.reader) == []
        await store.writer.write([new_user(ann())])
        assert await any_user(store.reader)
    finally:
        await store.close()


async def test_another_admin_is_active_and_somebody_else(store):
    await store.writer.write([new_user(ann(role="admin", state="active"))])
    assert await another_admin(store.reader, 7) is None
    assert await another_admin(store.reader, 1) == 7
    await store.writer.write([update(UserRow, where={"id": 7}, set={"state": DISABLED})])
    assert await another_admin(store.reader, 1) is None


async def test_a_subject_means_somebody_to_its_own_provider_alone(store):
    await store.writer.write([insert(IdentityRow, id=3, user=1, provider="local", subject="ann", secret="hash")])
    found = await find_identity(store.reader, "local", "ann")
    assert found is not None
    assert (found.id, found.user, found.provider, found.subject, found.secret) == (3, 1, "local", "ann", "hash")
    assert "hash" not in repr(found)
    assert await find_identity(store.reader, "other", "ann") is None
    assert await find_identity(store.reader, "local", "Ann") is None


async def test_a_time_is_in_utc_to_the_microsecond(store):
    late = NOW.replace(microsecond=999_999) + timedelta(days=40_000)
    await store.writer.write([new_user(ann(created=late))])
    found = await user_by_id(store.reader, 7)
    assert found is not None
    assert found.created == late
    assert found.created.tzinfo is UTC
