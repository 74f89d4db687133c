"""Short words for tests of environments."""

import asyncio
import json

from kohakuriver.store.models import EventRow
from kohakuriver.testing.runners import PATIENCE
from kohakuriver.wire.envs_api import RUNNING


async def ended(host, view):
    """The operation at its end."""
    operation = host.environments.operations.get(view.id)
    async with asyncio.timeout(PATIENCE):
        while operation.state == RUNNING:
            await operation.news.wait()
    return operation


async def told(host, what):
    """The details of these events, oldest first."""
    rows = await host.store.reader.of(EventRow).filter(what=what).order_by("id").values("detail")
    return [json.loads(row["detail"]) for row in rows]


async def until(condition):
    """Waits until it holds; for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
