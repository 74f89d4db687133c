"""Whole submissions over HTTP: decode, call, encode."""

from kohakuriver.host import batches
from kohakuriver.web.call import Call
from kohakuriver.wire import api, many, queries


async def show_batch(call: Call[queries.Query, None]) -> many.BatchView:
    """How many tasks stand where."""
    return await batches.show_batch(call.host, call.actor, call.part("batch"))


async def kill_batch(call: Call[queries.Query, api.Kill]) -> many.BatchView:
    """Ends what has not ended."""
    return await batches.kill_batch(call.host, call.actor, call.part("batch"), call.body.grace)


async def pause_batch(call: Call[queries.Query, None]) -> many.BatchView:
    """Freezes it."""
    return await batches.pause_batch(call.host, call.actor, call.part("batch"))


async def resume_batch(call: Call[queries.Query, None]) -> many.BatchView:
    """Lets it go on."""
    return await batches.resume_batch(call.host, call.actor, call.part("batch"))
