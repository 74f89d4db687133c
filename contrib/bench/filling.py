"""A store with so many finished tasks, written through the product's own writer. Made once a run, then copied."""

import asyncio
import random
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kohakuriver.domain.ids import next_id  # noqa: E402
from kohakuriver.domain.resources import Request  # noqa: E402
from kohakuriver.domain.tasks import Exit, Status, Task, TaskSpec  # noqa: E402
from kohakuriver.store.columns import micros  # noqa: E402
from kohakuriver.store.models import (  # noqa: E402
    AttemptRow,
    EventRow,
    NodeRow,
    OutputRow,
    TaskRow,
    UserRow,
)
from kohakuriver.store.open import open_store  # noqa: E402
from kohakuriver.store.tasks import task_row  # noqa: E402
from kohakuriver.store.write import Statement, insert_many  # noqa: E402

BATCH = 1000
STATUSES = (Status.COMPLETED, Status.FAILED, Status.KILLED, Status.TIMED_OUT)
WEIGHTS = (85, 10, 3, 2)


def fill(data: Path, count: int) -> None:
    """Adds finished tasks with attempt, output and history to the store in this directory; no host may run there."""
    asyncio.run(_fill(data, count))


def copy(data: Path, to: Path) -> None:
    """The directory of a stopped host for another one."""
    shutil.copytree(data, to)


async def _fill(data: Path, count: int) -> None:
    now = datetime.now(UTC)
    store = await open_store(data, now=now)
    try:
        owner = (await store.reader.of(UserRow).first().values("id"))["id"]
        nodes = [row["id"] for row in await store.reader.of(NodeRow).all().values("id")]
        chance = random.Random(7)
        last = 0
        for begin in range(0, count, BATCH):
            tasks = []
            for number in range(begin, min(count, begin + BATCH)):
                submitted = now - timedelta(seconds=(count - number) * 3)
                last = next_id(last, int(submitted.timestamp() * 1000), 0)
                tasks.append(_task(last, owner, chance.choice(nodes), submitted, chance))
            await store.writer.write(_rows(tasks))
    finally:
        await store.close()


def _task(id: int, owner: int, node: int, submitted: datetime, chance: random.Random) -> Task:
    status = chance.choices(STATUSES, WEIGHTS)[0]
    started = submitted + timedelta(seconds=chance.random() * 100)
    finished = started + timedelta(seconds=chance.random() * 10_000)
    code = 0 if status is Status.COMPLETED else 1
    spec = TaskSpec(
        argv=("python", "train.py", "--epochs", str(chance.randrange(1000))),
        env={"SEED": str(chance.randrange(1000))},
        request=Request(cores=chance.randrange(1, 9), memory=chance.randrange(1, 64) << 30),
        priority=chance.randrange(-3, 4),
    )
    task = Task(id=id, batch=id, owner=owner, spec=spec, status=status, submitted=submitted, node=node, generation=1)
    name = f"train-{chance.randrange(10_000)}" if chance.random() < 0.5 else None
    return replace(task, name=name, started=started, finished=finished, exit=Exit(code=code), version=5)


def _rows(tasks: list[Task]) -> list[Statement]:
    attempts = [
        {
            "id": task.attempt, "task_id": task.id, "generation": 1, "node_id": task.node, "epoch": 1,
            "state": "exited", "placed": micros(task.submitted), "started": micros(task.started or task.submitted),
            "finished": micros(task.finished or task.submitted), "exit_code": task.exit.code if task.exit else None,
        }
        for task in tasks
    ]  # fmt: skip
    outputs = [
        {
            "id": f"{task.attempt}/stdout", "attempt_id": task.attempt, "stream": "stdout", "size": 12, "head": 12,
            "tail": 0, "data": b"hello world\n",
        }
        for task in tasks
    ]  # fmt: skip
    events = [
        {
            "id": task.id + 1, "at": micros(task.submitted), "what": "exited", "actor": "node node1", "task": task.id,
            "node": task.node, "detail": "{}",
        }
        for task in tasks
    ]  # fmt: skip
    return [
        insert_many(TaskRow, [task_row(task) for task in tasks]),
        insert_many(AttemptRow, attempts),
        insert_many(OutputRow, outputs),
        insert_many(EventRow, events),
    ]


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
