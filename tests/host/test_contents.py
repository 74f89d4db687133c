"""The store of contents: only what is whole and what it says gets its name, and what nothing needs goes."""

import asyncio
import hashlib
import random

import pytest
import zstandard

from kohakuriver.errors import Conflict, Invalid, Malformed, StorageFull
from kohakuriver.host.environments.contents import Contents


def packed(data):
    """A content's digest and its zstd file."""
    return "sha256:" + hashlib.sha256(data).hexdigest(), zstandard.compress(data)


async def pieces(data, size=1000):
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture
async def opened(tmp_path):
    async def opened():
        contents = Contents(tmp_path / "contents", asyncio.to_thread, floor=0)
        await contents.open()
        return contents

    return opened


async def put(contents, data):
    digest, file = packed(data)
    await contents.put(digest, len(file), pieces(file))
    return digest


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "contents").iterdir())


async def test_a_content_is_there_when_it_was_verified_and_stays(tmp_path, opened):
    contents = await opened()
    digest = await put(contents, b"layer" * 100_000)
    assert contents.has(digest)
    assert zstandard.decompress(contents.path(digest).read_bytes()) == b"layer" * 100_000
    assert (await opened()).has(digest)
    assert files(tmp_path) == [f"{digest[7:]}.zst"]


DIGEST, FILE = packed(b"layer" * 1000)
WRONG = {
    "another content": (packed(b"other")[1], Invalid),
    "no zstd": (b"plain", Invalid),
    "cut off": (FILE[:-3], Invalid),
    "nothing": (b"", Invalid),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_not_what_it_says_leaves_nothing(tmp_path, opened, what):
    data, error = WRONG[what]
    contents = await opened()
    with pytest.raises(error):
        await contents.put(DIGEST, len(data), pieces(data))
    assert not contents.has(DIGEST)
    assert files(tmp_path) == []
    await contents.put(DIGEST, len(FILE), pieces(FILE))
    assert contents.has(DIGEST)


@pytest.mark.parametrize("size", [len(FILE) - 1, len(FILE) + 1])
async def test_a_size_that_is_not_true_is_refused(tmp_path, opened, size):
    contents = await opened()
    with pytest.raises(Invalid, match="announced"):
        await contents.put(DIGEST, size, pieces(FILE))
    assert files(tmp_path) == []


async def test_a_body_that_breaks_off_leaves_nothing(tmp_path, opened):
    async def breaks():
        yield FILE[:10]
        raise Malformed("the body broke off")

    contents = await opened()
    with pytest.raises(Malformed):
        await contents.put(DIGEST, len(FILE), breaks())
    assert files(tmp_path) == []


async def test_one_upload_of_a_content_at_a_time(opened):
    contents, going, go = await opened(), asyncio.Event(), asyncio.Event()

    async def slow():
        going.set()
        await go.wait()
        yield FILE

    async with asyncio.TaskGroup() as group:
        first = group.create_task(contents.put(DIGEST, len(FILE), slow()))
        await going.wait()
        with pytest.raises(Conflict):
            await contents.put(DIGEST, len(FILE), pieces(FILE))
        go.set()
    assert first.done()
    await contents.put(DIGEST, len(FILE), pieces(b"is not looked at"))


async def test_what_does_not_fit_is_refused_before_it_comes(tmp_path):
    contents = Contents(tmp_path / "contents", asyncio.to_thread, floor=1 << 62)
    await contents.open()
    with pytest.raises(StorageFull, match="keeps"):
        await contents.put(DIGEST, len(FILE), pieces(FILE))


async def test_what_others_took_meanwhile_counts_too(tmp_path, opened, monkeypatch):
    data = random.Random(1).randbytes(3 << 20)
    digest, file = packed(data)
    contents = await opened()

    async def coming():
        yield file[: 1 << 20]
        monkeypatch.setattr(contents, "_floor", 1 << 60)
        yield file[1 << 20 :]

    with pytest.raises(StorageFull, match="keeps"):
        await contents.put(digest, len(file), coming())
    assert files(tmp_path) == []


async def test_unfinished_files_of_an_earlier_life_go(tmp_path, opened):
    (tmp_path / "contents").mkdir()
    (tmp_path / "contents" / f"{'a' * 64}.part").write_bytes(b"half")
    await opened()
    assert files(tmp_path) == []


async def test_what_nothing_needs_goes_but_not_while_somebody_publishes(tmp_path, opened):
    contents = await opened()
    kept, gone = await put(contents, b"kept"), await put(contents, b"gone")
    async with contents.publishing(1):
        assert contents.publishes(1)
        assert not contents.publishes(2)
        assert await contents.sweep(lambda: {kept}) == 0
    assert await contents.sweep(lambda: {kept}) == 1
    assert (contents.has(kept), contents.has(gone)) == (True, False)
    assert files(tmp_path) == [f"{kept[7:]}.zst"]


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64])
async def test_what_is_no_digest_names_no_file(opened, digest):
    with pytest.raises(Invalid):
        (await opened()).path(digest)


async def test_an_upload_that_is_given_up_while_it_gets_its_name_is_known_and_can_go(tmp_path):
    async def in_thread(function, *arguments):
        result = await asyncio.to_thread(function, *arguments)
        if getattr(function, "__name__", "") == "finish":
            raise asyncio.CancelledError
        return result

    contents = Contents(tmp_path / "contents", in_thread, floor=0)
    await contents.open()
    with pytest.raises(asyncio.CancelledError):
        await contents.put(DIGEST, len(FILE), pieces(FILE))
    assert contents.has(DIGEST) == contents.path(DIGEST).exists()
    assert await contents.sweep(lambda: ()) == 1
    assert files(tmp_path) == []
