"""What is removed when it is old, and what stays."""

from datetime import timedelta

import pytest

from kohakuriver.host import retention
from kohakuriver.host.retention import Retention
from kohakuriver.store import expired
from kohakuriver.store.columns import micros
from kohakuriver.store.models import IdempotencyRow, OnceRow, OutputRow, ReportRow, SessionRow
from kohakuriver.store.write import insert
from kohakuriver.testing.runners import Bytes, answer
from kohakuriver.wire import codec, link

from .kit import exited, running, submit

DAY = timedelta(days=1).total_seconds()


@pytest.fixture
def keeper(host):
    return Retention(reader=host.store.reader, commits=host.commits, blobs=host.blobs, clock=host.clock, output_days=30)


async def count(host, model):
    return await host.store.reader.of(model).all().count()


async def finish(host, ann, node, size=3):
    """A task whose output is in the store, or with more than 64 KiB in a blob."""
    task = await running(host, ann, node)
    kept = link.Sealed(size=size, head=size)
    if size <= 64 * 1024:
        kept.data = b"x" * size
    dials = len(node.pipe.of(link.Dial))
    await node.tell("exited", task.attempt, **exited(0, stdout=kept))
    if kept.data is None:
        header = codec.encode({"stdout": kept, "stderr": link.Sealed()}) + b"\n"
        await answer(node, Bytes(header + b"x" * size), count=dials + 1)
    await node.pipe.until(lambda: any(task.attempt in forget.attempts for forget in node.pipe.of(link.Forget)))
    return task.id


def blobs(host):
    return [path for path in (host.settings.data_dir / "output").rglob("*") if path.is_file()]


async def test_output_goes_after_its_days_rows_and_files(host, ann, node, clock, keeper):
    await finish(host, ann, node)
    await finish(host, ann, node, size=100_000)
    clock.advance(15 * DAY)
    node.pipe.feed(link.Heartbeat())
    await node.tell("unknown", "1.1")
    young = await finish(host, ann, node, size=100_000)
    assert (await count(host, OutputRow), len(blobs(host))) == (6, 4)
    assert await keeper.tick() == 0
    clock.advance(15 * DAY + 1)
    assert await keeper.tick() == 4
    rows = await host.store.reader.of(OutputRow).all().values("attempt_id")
    assert {row["attempt_id"] for row in rows} == {f"{young}.1"}
    assert sorted(path.name for path in blobs(host)) == [f"{young}.1.stderr", f"{young}.1.stdout"]
    assert await keeper.tick() == 0


async def test_zero_days_keep_output_for_ever(host, ann, node, clock, keeper):
    await finish(host, ann, node)
    keeper.output_days = 0
    clock.advance(3650 * DAY)
    await keeper.tick()
    assert await count(host, OutputRow) == 2


async def test_a_file_that_is_gone_already_keeps_no_row_alive(host, ann, node, clock, keeper):
    await finish(host, ann, node, size=100_000)
    for path in blobs(host):
        path.unlink()
    clock.advance(31 * DAY)
    assert await keeper.tick() == 2


async def test_keys_go_after_a_day_sessions_and_secrets_after_a_week(host, ann, node, clock, keeper):
    now = clock.now()
    await submit(host, ann, key="old")
    await node.tell("unknown", "7.1")
    for days in (-30, 1):
        moment = micros(now + timedelta(days=days))
        await host.store.writer.write(
            [
                insert(SessionRow, id=f"s{days}", user_id=ann.id, created=0, seen=0, expires=moment),
                insert(OnceRow, id=f"o{days}", kind="x", subject="x", hash="", created=0, expires=moment),
            ]
        )
    clock.advance(DAY - 1)
    await submit(host, ann, key="young")
    await keeper.tick()
    assert await count(host, IdempotencyRow) == 2
    clock.advance(2)
    await keeper.tick()
    rows = await host.store.reader.of(IdempotencyRow).all().values("key")
    assert rows == [{"key": "young"}]
    for model, ids in ((SessionRow, {"s-30", "s1"}), (OnceRow, {"o-30", "o1"})):
        rows = await host.store.reader.of(model).all().values("id")
        assert {row["id"] for row in rows} & ids == ids - {"s-30", "o-30"}
    clock.advance(7 * DAY)
    await keeper.tick()
    assert await host.store.reader.of(SessionRow).filter(id="s1").count() == 0
    assert await count(host, ReportRow) == 1
    clock.advance(30 * DAY)
    await keeper.tick()
    assert await count(host, ReportRow) == 0
    # tasks and their history stay
    assert len(list(host.board.all())) == 2


async def test_many_rows_go_in_batches(host, ann, node, clock, keeper, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 3)
    for _ in range(5):
        await finish(host, ann, node)
    for number in range(8):
        await submit(host, ann, key=str(number))
    sizes = []
    write = host.store.writer.write

    async def counted(statements):
        sizes.append(max(len(row) for statement in statements for row in statement.rows))
        return await write(statements)

    monkeypatch.setattr(host.store.writer, "write", counted)
    clock.advance(31 * DAY)
    assert await keeper.tick() == 18 + await count(host, OutputRow)
    assert max(sizes) == 3
    assert await count(host, OutputRow) == await count(host, IdempotencyRow) == 0


async def test_the_pass_walks_indexes(host, keeper, clock):
    plan = await host.store.reader.rows(f"EXPLAIN QUERY PLAN {expired._OLD_OUTPUTS}", [1, 0, "", 10])
    told = " / ".join(row["detail"] for row in plan)
    assert "ix_attempts_finished" in told
    assert "SCAN" not in told
