"""Reports wait a moment for company on their way to the store, unless somebody waits for them."""

import asyncio
from datetime import UTC, datetime

import pytest

from kohakuriver.host import link as links
from kohakuriver.wire import link

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def reported(*words):
    waiting = asyncio.Queue()
    for seq, what in enumerate(words, 1):
        waiting.put_nowait(link.Report(seq=seq, attempt="7.1", what=what, at=NOW))
    return waiting


@pytest.mark.parametrize("words", [("exited", "accepted"), ("accepted", "started", "exited"), ("paused",)])
async def test_a_report_that_somebody_waits_for_waits_for_none_that_nobody_does(words, monkeypatch):
    monkeypatch.setattr(links, "LINGER_SECONDS", 3600.0)
    async with asyncio.timeout(30):
        assert [report.what for report in await links._batch(reported(*words))] == list(words)


async def test_reports_that_nobody_waits_for_are_taken_together_with_what_follows_them(monkeypatch):
    monkeypatch.setattr(links, "LINGER_SECONDS", 3600.0)
    waiting = reported("accepted", "started")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        batch = group.create_task(links._batch(waiting))
        while not waiting.empty():
            await asyncio.sleep(0)
        assert not batch.done()
        waiting.put_nowait(link.Report(seq=3, attempt="7.1", what="exited", at=NOW))
    assert [report.what for report in batch.result()] == ["accepted", "started", "exited"]
