"""Short words for what most tests of the host begin with."""

import asyncio

from kohakuriver.host.submit import submit_tasks
from kohakuriver.store.models import AttemptRow, EventRow, ReservationRow, TaskRow
from kohakuriver.store.tasks import load_task, task_of
from kohakuriver.testing.runners import PATIENCE
from kohakuriver.wire import api, link


async def submit(host, actor, *, key=None, body=b"", **fields):
    """Ids of the tasks that one request made."""
    request = api.SubmitTask(**{"command": ["true"], **fields})
    answer = await submit_tasks(host, actor, request, key=key, body=body)
    return [int(task) for task in answer.tasks]


async def placed(host, actor, **fields):
    """One task that has just been placed."""
    (task,) = await submit(host, actor, **fields)
    await host.scheduler.tick()
    return host.board.get(task)


async def running(host, actor, peer, **fields):
    """One task that its node said is running."""
    task = await placed(host, actor, **fields)
    await peer.tell("accepted", task.attempt)
    await peer.tell("started", task.attempt)
    return host.board.get(task.id)


def exited(code=0, **fields):
    """Fields of a report of an exit without output."""
    empty = link.Sealed()
    return {"exit": link.WireExit(code=code), "stdout": empty, "stderr": empty, **fields}


async def stored(host, task):
    return await load_task(host.store.reader, task)


async def held_rows(host, task):
    return await host.store.reader.of(ReservationRow).filter(task_id=task).values()


async def attempt_row(host, attempt):
    return (await host.store.reader.of(AttemptRow).filter(id=attempt).values())[0]


async def told(host, task):
    """What the history says of a task, oldest first."""
    rows = await host.store.reader.of(EventRow).filter(task=task).order_by("id").values("what")
    return [row["what"] for row in rows]


async def agree(host):
    """The store's open tasks and reservations are exactly the board's; final tasks hold nothing."""
    tasks = [task_of(row) for row in await host.store.reader.of(TaskRow).all().values()]
    held = {}
    for row in await host.store.reader.of(ReservationRow).all().values():
        amount = held.setdefault((row["node_id"], row["task_id"]), [0, 0, set()])
        amount[0] += row["cpu_milli"]
        amount[1] += row["memory"]
        amount[2] |= {row["device"]} - {None}
    for task in tasks:
        assert host.board.get(task.id) == (None if task.final else task)
    on_board = {
        (member.id, task): [reserved.cpu_milli, reserved.memory, set(reserved.devices)]
        for member in host.roster.live()
        for task, reserved in host.board.reserved(member.id).items()
    }
    assert on_board == held
    assert {task.id for task in tasks if not task.final} == {task.id for task in host.board.all()}


class Gate:
    """The store's writer, behind a door: writes wait there, and are made in their order once it is opened."""

    def __init__(self, host, monkeypatch):
        self._write = host.store.writer.write
        self.arrived = asyncio.Semaphore(0)
        self.opened = asyncio.Event()
        monkeypatch.setattr(host.store.writer, "write", self.write)

    async def write(self, statements):
        self.arrived.release()
        await self.opened.wait()
        return await self._write(statements)

    async def reached(self):
        async with asyncio.timeout(PATIENCE):
            await self.arrived.acquire()
