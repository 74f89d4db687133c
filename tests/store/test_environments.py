"""Environments and versions on both databases: numbers come once, rows come back as they went in."""

import pytest

from kohakuriver.store.environments import (
    StoredVersion,
    add_version,
    all_environments,
    all_versions,
    begin_removal,
    end_removal,
    set_aside,
)
from kohakuriver.store.write import ConstraintFailed, WrongCount

from .conftest import NOW

VERSION = StoredVersion(
    environment="my-env", number=1, digest="sha256:" + "a" * 64, size=12, syncer="direct", locator='{"x": "é"}',
    blobs=("sha256:" + "b" * 64,), author="ann", note="with numpy", created=NOW,
)  # fmt: skip


async def test_a_version_comes_back_as_it_was_stored(store):
    await store.writer.write([set_aside("my-env", 0, NOW)])
    await store.writer.write([add_version(VERSION)])
    assert await all_versions(store.reader) == [VERSION]
    assert await all_environments(store.reader) == {"my-env": 1}


async def test_a_number_is_set_aside_once(store):
    await store.writer.write([set_aside("my-env", 0, NOW)])
    with pytest.raises(ConstraintFailed):
        await store.writer.write([set_aside("my-env", 0, NOW)])
    await store.writer.write([set_aside("my-env", 1, NOW)])
    with pytest.raises(WrongCount):
        await store.writer.write([set_aside("my-env", 1, NOW)])
    assert await all_environments(store.reader) == {"my-env": 2}


async def test_a_removed_version_leaves_its_number_behind(store):
    await store.writer.write([set_aside("my-env", 0, NOW), add_version(VERSION)])
    await store.writer.write([begin_removal(VERSION)])
    assert [one.removing for one in await all_versions(store.reader)] == [True]
    with pytest.raises(WrongCount):
        await store.writer.write([begin_removal(VERSION)])
    await store.writer.write([end_removal(VERSION)])
    await store.writer.write([end_removal(VERSION)])
    assert await all_versions(store.reader) == []
    assert await all_environments(store.reader) == {"my-env": 1}


async def test_what_is_not_being_removed_stays(store):
    await store.writer.write([set_aside("my-env", 0, NOW), add_version(VERSION)])
    await store.writer.write([end_removal(VERSION)])
    assert await all_versions(store.reader) == [VERSION]


async def test_no_version_without_its_environment(store):
    with pytest.raises(ConstraintFailed):
        await store.writer.write([add_version(VERSION)])
