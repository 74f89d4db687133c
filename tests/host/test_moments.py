"""One thing that goes wrong at a bad moment: no answer looks whole that is not, nobody waits for what cannot come."""

import asyncio
import os
import threading

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import Gone, Unreachable
from kohakuriver.host import nodes, tasks
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.control import declare_lost
from kohakuriver.host.output import read_output
from kohakuriver.testing.hosts import add_account
from kohakuriver.testing.runners import Bytes, answer
from kohakuriver.wire import codec, link

from .kit import exited, running

PATIENCE = 30.0


async def read(host, actor, task, **fields):
    reading = await read_output(host, actor, str(task), "stdout", **fields)
    return b"".join([chunk async for chunk in reading.chunks])


async def test_a_fetch_that_is_given_up_while_it_writes_closes_no_file_of_somebody_else(tmp_path, monkeypatch):
    writing, go = threading.Event(), threading.Event()
    write = os.write

    def slow(file, data):
        writing.set()
        assert go.wait(PATIENCE)
        return write(file, data)

    monkeypatch.setattr(os, "write", slow)
    blobs = Blobs(tmp_path, asyncio.to_thread)
    opened = []

    async def fetch():
        async with blobs.writing("7.1", "stdout") as blob:
            opened.append(blob)
            await blob.write(b"mine")

    fetching = asyncio.create_task(fetch())
    await asyncio.to_thread(writing.wait, PATIENCE)
    fetching.cancel()
    await asyncio.wait({fetching}, timeout=0.2)
    # whoever opens a file now gets a number that was closed, if one was
    others = [os.open(tmp_path / f"other{number}", os.O_RDWR | os.O_CREAT) for number in range(8)]
    go.set()
    await asyncio.wait({fetching}, timeout=PATIENCE)
    await asyncio.to_thread(lambda: None)
    assert fetching.cancelled()
    for number, other in enumerate(others):
        assert os.pread(other, 10, 0) == b"", f"other{number} was written to"
        os.close(other)
    assert not list(tmp_path.rglob("7.1*"))


async def test_a_fetch_that_is_given_up_while_its_file_is_opened_leaves_no_file_open(tmp_path, monkeypatch):
    opening, go, opened = threading.Event(), threading.Event(), threading.Event()
    open_ = os.open

    def slow(*arguments, **more):
        opening.set()
        assert go.wait(PATIENCE)
        try:
            return open_(*arguments, **more)
        finally:
            opened.set()

    def files():
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return [name for name in map(os.path.realpath, links) if name.startswith(str(tmp_path))]

    monkeypatch.setattr(os, "open", slow)
    blobs = Blobs(tmp_path, asyncio.to_thread)

    async def fetch():
        async with blobs.writing("7.1", "stdout") as blob:
            await blob.write(b"mine")

    fetching = asyncio.create_task(fetch())
    await asyncio.to_thread(opening.wait, PATIENCE)
    fetching.cancel()
    await asyncio.sleep(0)
    go.set()
    await asyncio.wait({fetching}, timeout=PATIENCE)
    await asyncio.to_thread(opened.wait, PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while files() or list(tmp_path.rglob("7.1*")):
            await asyncio.to_thread(lambda: None)


async def archived(host, ann, node, data):
    """A task whose output was fetched."""
    task = await running(host, ann, node)
    whole = link.Sealed(size=len(data), head=len(data))
    await node.tell("exited", task.attempt, **exited(0, stdout=whole))
    header = codec.encode({"stdout": whole, "stderr": link.Sealed()}) + b"\n"
    await answer(node, Bytes(header + data))
    await node.pipe.heard(link.Forget)
    return task


async def test_an_archive_that_lost_its_end_is_an_error_and_no_end(host, ann, node):
    task = await archived(host, ann, node, bytes(2000))
    (path,) = host.settings.data_dir.rglob(f"{task.id}.1.stdout")
    path.write_bytes(bytes(500))
    with pytest.raises(Gone, match="1500"):
        await read(host, ann, task.id)


async def test_following_what_was_given_up_is_no_empty_answer_while_its_node_is_away(host, ann, boss, node):
    task = await running(host, ann, node)
    await node.drop()
    await declare_lost(host, boss, str(task.id), "burnt")
    with pytest.raises(Unreachable):
        await read(host, ann, task.id, follow=True)


async def test_following_what_was_given_up_tells_what_its_node_still_has(host, ann, boss, node):
    task = await running(host, ann, node)
    await declare_lost(host, boss, str(task.id), "burnt")
    reading = asyncio.create_task(read(host, ann, task.id, follow=True))
    await answer(
        node, Bytes((0).to_bytes(8, "big") + (3).to_bytes(4, "big") + b"out" + (3).to_bytes(8, "big") + bytes(4))
    )
    assert await reading == b"out"


async def test_following_output_of_a_node_that_was_cut_off_does_not_wait_for_ever(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.AGAIN", 0.01)
    task = await running(host, ann, node)
    admin = await add_account(host, "root", Role.ADMIN)
    await nodes.revoke(host, admin, "node1", "stolen")
    with pytest.raises(Unreachable):
        async with asyncio.timeout(PATIENCE):
            await read(host, ann, task.id, follow=True)


async def test_a_node_that_opens_a_stream_and_says_nothing_is_not_waited_for_for_ever(host, ann, node, monkeypatch):
    monkeypatch.setattr("kohakuriver.host.output.STALLED", 0.05)
    task = await running(host, ann, node)
    reading = asyncio.create_task(read(host, ann, task.id))
    await answer(node, Bytes(b"", hangs=True))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unreachable):
            await reading


async def test_an_end_that_comes_while_the_name_is_looked_up_is_not_waited_for(host, ann, node, monkeypatch):
    task = await running(host, ann, node, name="train")
    find = tasks.find_tasks

    async def slow(*arguments, **more):
        found = await find(*arguments, **more)
        await node.tell("exited", task.attempt, **exited(0))
        return found

    monkeypatch.setattr(tasks, "find_tasks", slow)
    async with asyncio.timeout(PATIENCE):
        assert (await tasks.wait_task(host, ann, "train", 60)).status == "completed"


async def test_what_may_be_forgotten_is_not_told_before_the_next_session_has_been_greeted(host, ann, node, monkeypatch):
    task = await running(host, ann, node)
    gather, go = asyncio.Event(), asyncio.Event()

    async def slow(_seconds):
        gather.set()
        await go.wait()

    monkeypatch.setattr("kohakuriver.host.archive.asyncio", Sleeps(slow))
    await node.tell("exited", task.attempt, **exited(0))
    await gather.wait()
    await node.drop()
    pipe = node.begin()
    go.set()
    pipe.feed(node.hello())
    await pipe.heard(link.Welcome)
    assert not pipe.of(link.Forget)
    monkeypatch.undo()
    pipe.feed(link.Inventory(held=[link.Held(attempt=task.attempt, phase="exited")]))
    assert (await pipe.heard(link.Forget)).attempts == [task.attempt]


class Sleeps:
    """asyncio with a sleep of the test's."""

    def __init__(self, sleep):
        self.sleep = sleep

    def __getattr__(self, name):
        return getattr(asyncio, name)


async def test_an_end_of_which_a_broken_session_did_not_hear_is_remembered_no_longer_than_to_the_next(host, ann, node):
    task = await running(host, ann, node)
    await node.tell("exited", task.attempt, **exited(0))
    # as after a commit whose session was gone before it could be told
    host.archive.complete.add(task.attempt)
    await node.drop()
    pipe = await node.connect(held=[link.Held(attempt=task.attempt, phase="exited")])
    assert task.attempt in (await pipe.heard(link.Forget)).attempts
    assert host.archive.complete == set()
