"""Sessions, tokens and secrets for one use, as values and as statements."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kohakuriver.errors import MovedOn
from kohakuriver.store.credentials import (
    Once,
    end_once,
    end_sessions,
    end_tokens,
    new_once,
    once_by_id,
    session_by_id,
    session_ids,
    sessions_of,
    token_by_id,
    tokens_of,
    use_once,
)
from kohakuriver.store.models import SessionRow, TokenRow
from kohakuriver.store.write import insert

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


def session(id, *, user=1, age=0, **more):
    values = {"created": NOW - age * HOUR, "seen": NOW, "expires": NOW + HOUR, "client": "browser"}
    return insert(SessionRow, id=id, user=user, **{**values, **more})


def token(id, *, user=1, age=0, **more):
    return insert(TokenRow, id=id, user=user, **{"name": id, "hash": "h", "created": NOW - age * HOUR, **more})


def once(id="once", **more):
    values = {"kind": "setup", "subject": "1", "hash": "h", "created_by": 1, "created": NOW, "expires": NOW + HOUR}
    return Once(id=id, **{**values, **more})


async def test_a_session_is_read_as_it_was_written(store):
    await store.writer.write([session("s1", age=2)])
    found = await session_by_id(store.reader, "s1")
    assert found is not None
    assert (found.id, found.user, found.client, found.revoked) == ("s1", 1, "browser", None)
    assert (found.created, found.seen, found.expires) == (NOW - 2 * HOUR, NOW, NOW + HOUR)
    assert await session_by_id(store.reader, "s2") is None


async def test_sessions_that_ended_or_ran_out_are_not_listed(store, rows):
    await store.writer.write(
        [
            rows.person(2),
            session("old", age=3),
            session("new", age=1),
            session("ended", revoked=NOW),
            session("over", expires=NOW),
            session("hers", user=2),
        ]
    )
    found = await sessions_of(store.reader, 1, now=NOW, limit=9)
    assert [one.id for one in found] == ["new", "old"]
    assert [one.id for one in await sessions_of(store.reader, 1, now=NOW, limit=1)] == ["new"]
    assert sorted(await session_ids(store.reader, 1)) == ["new", "old", "over"]


async def test_ending_sessions_leaves_one_and_those_of_others(store, rows):
    await store.writer.write([rows.person(2), session("a"), session("b"), session("c", user=2)])
    await store.writer.write([end_sessions(1, NOW, but="b")])
    assert await session_ids(store.reader, 1) == ["b"]
    assert await session_ids(store.reader, 2) == ["c"]
    await store.writer.write([end_sessions(1, NOW + HOUR)])
    assert await session_ids(store.reader, 1) == []
    first = await session_by_id(store.reader, "a")
    assert first is not None
    assert first.revoked == NOW


async def test_a_token_is_read_as_it_was_written(store):
    await store.writer.write([token("t1", scopes='["read","tasks"]', expires=NOW + HOUR, used=NOW), token("t2")])
    full, bare = await token_by_id(store.reader, "t1"), await token_by_id(store.reader, "t2")
    assert full is not None
    assert bare is not None
    assert (full.user, full.name, full.hash, full.scopes) == (1, "t1", "h", ("read", "tasks"))
    assert (full.created, full.expires, full.used, full.revoked) == (NOW, NOW + HOUR, NOW, None)
    assert (bare.scopes, bare.expires, bare.used, bare.revoked) == ((), None, None, None)
    assert "hash" not in repr(full)
    assert await token_by_id(store.reader, "t3") is None


async def test_tokens_that_ended_are_not_listed(store, rows):
    await store.writer.write([rows.person(2), token("old", age=2), token("new"), token("hers", user=2)])
    assert [one.id for one in await tokens_of(store.reader, 1, limit=9)] == ["new", "old"]
    assert [one.id for one in await tokens_of(store.reader, 1, limit=1)] == ["new"]
    await store.writer.write([end_tokens(1, NOW)])
    assert await tokens_of(store.reader, 1, limit=9) == []
    assert [one.id for one in await tokens_of(store.reader, 2, limit=9)] == ["hers"]


@pytest.mark.parametrize("more", [{}, {"created_by": None, "kind": "admin", "subject": ""}])
async def test_a_secret_for_one_use_is_read_as_it_was_written(store, more):
    await store.writer.write([new_once(once(**more))])
    assert await once_by_id(store.reader, "once") == once(**more)
    assert await once_by_id(store.reader, "other") is None


async def test_a_secret_is_used_once_and_in_time(store):
    await store.writer.write([new_once(once()), new_once(once("late"))])
    await store.writer.write([use_once(once(), NOW)])
    for tried, at in ((once(), NOW), (once("late"), NOW + HOUR), (once("never"), NOW)):
        with pytest.raises(MovedOn):
            await store.writer.write([use_once(tried, at)])
    assert await once_by_id(store.reader, "once") == replace(once(), used=NOW)
    assert await once_by_id(store.reader, "late") == once("late")


async def test_ending_secrets_ends_those_of_one_kind_and_subject_that_are_not_used(store):
    others = [once("kind", kind="join"), once("subject", subject="2")]
    await store.writer.write([new_once(one) for one in (once("a"), once("b"), *others)])
    await store.writer.write([use_once(once("a"), NOW)])
    await store.writer.write([end_once("setup", "1", NOW + HOUR)])
    assert await once_by_id(store.reader, "a") == replace(once("a"), used=NOW)
    assert await once_by_id(store.reader, "b") == replace(once("b"), used=NOW + HOUR)
    assert [await once_by_id(store.reader, one.id) for one in others] == others
