"""A host that is restored from a copy older than half of what runs: nothing is killed, and everything is told (P11)."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing

from kohakuriver.domain.access import Role
from kohakuriver.domain.tasks import Status
from kohakuriver.host import enrol
from kohakuriver.host.submit import submit_tasks
from kohakuriver.runner.runner import Runner
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.store.models import EventRow
from kohakuriver.store.open import FILE
from kohakuriver.testing.fakes import FakeBackend, World
from kohakuriver.testing.hosts import add_account, opened_host, served
from kohakuriver.wire import api
from kohakuriver.wire.link import WireCell

PATIENCE = 60.0


async def no_command(argv, **_):
    raise AssertionError(f"no helper command is expected: {argv}")


@asynccontextmanager
async def node(tmp_path, world, url, credential, cluster):
    """A life of the runner; what runs in the world outlives it."""
    settings = RunnerSettings(
        data_dir=tmp_path / "node", host_url=url, credential=credential, name="one", cluster=cluster
    )
    cells = [WireCell(cpus=[0, 1, 2, 3], memory=2**33)]
    runner = Runner(settings, [FakeBackend(world)], run_command=no_command, cells=lambda: cells)
    async with asyncio.TaskGroup() as group:
        group.create_task(runner.run())
        yield runner
        runner.stop()


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def submitted(host, actor):
    answer = await submit_tasks(host, actor, api.SubmitTask(command=["sleep"], image="img", cores=1))
    return int(answer.tasks[0])


def is_running(host, task):
    found = host.board.get(task)
    return found is not None and found.status is Status.RUNNING


async def test_nothing_is_killed_and_everything_is_told(tmp_path):
    world, store, copy = World(), tmp_path / "host" / FILE, tmp_path / "copy.db"
    async with opened_host(tmp_path / "host", loops=True) as host, served(host) as url:
        root = await add_account(host, "root", Role.ADMIN)
        made = await enrol.make_token(host, root, api.NewNodeToken(name="one"))
        joined = await enrol.join(host, api.Join(token=made.token, name="one"), "127.0.0.1")
        async with node(tmp_path, world, url, joined.credential, joined.cluster) as runner:
            await until(lambda: host.roster.named("one").connected)
            stays, ends = await submitted(host, root), await submitted(host, root)
            await until(lambda: is_running(host, stays) and is_running(host, ends))
            with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            later = await submitted(host, root)
            await until(lambda: is_running(host, later))
            world.end(f"{ends}.1", 7)
            await until(lambda: host.board.get(ends) is None and f"{ends}.1" not in runner.journal.attempts)
    for path in store.parent.glob(f"{FILE}*"):
        path.unlink()
    with closing(sqlite3.connect(copy)) as restored:
        restored.execute("UPDATE meta SET value = '2' WHERE key = 'incarnation'")
        restored.commit()
    copy.rename(store)
    async with (
        opened_host(tmp_path / "host", loops=True) as host,
        served(host) as url,
        node(tmp_path, world, url, joined.credential, joined.cluster),
    ):
        await until(lambda: host.board.get(ends) is None)
        after = await host.ledger.find(ends)
        rows = []
        async with asyncio.timeout(PATIENCE):
            while not rows:
                rows = await host.store.reader.of(EventRow).filter(what="recovered").values("detail")
                await asyncio.sleep(0.01)
        assert is_running(host, stays)
    # its end was acknowledged and forgotten after the copy: nobody can know it any more, and nobody makes one up
    assert (after.status, after.exit.code) == (Status.LOST, None)
    assert [f"{later}.1" in row["detail"] and '"owner":"root"' in row["detail"] for row in rows] == [True]
    assert sorted(world.bodies) == sorted([f"{stays}.1", f"{later}.1"])
    assert [(body.phase, body.starts, body.signals) for body in world.bodies.values()] == [("running", 1, [])] * 2
