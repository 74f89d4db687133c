"""What happens: the history as a page, or changes as they come, as NDJSON or as server-sent events."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from kohakuriver.domain.access import Action, authorize
from kohakuriver.host import tasks
from kohakuriver.host.changes import Subscription
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Roster
from kohakuriver.web.call import Call
from kohakuriver.wire import api, codec, queries

#: seconds of silence after which a ping is sent; clients take a longer one for a break
PING_SECONDS = 15.0
#: seconds after which a reader that takes nothing is left
STALLED_SECONDS = 60.0
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"

Form = Callable[[api.ChangeView], bytes]


async def list_events(call: Call[queries.EventQuery, None]) -> api.Page[api.EventView] | web.StreamResponse:
    """The history, newest first; with `follow` a stream of changes that begins with `hello`.

    A change names the thing and its status, which everybody signed in may see. A reader that was too slow gets
    `lagged` and looks at everything again, as after a reconnect: changes are not kept, so `Last-Event-ID` says nothing.
    """
    query = call.query
    if query.follow:
        authorize(call.actor, Action.EVENTS)
        return await _follow(call)
    return await tasks.list_events(
        call.host, call.actor, cursor=query.cursor, limit=query.limit, task=query.task, node=query.node
    )


async def _follow(call: Call[queries.EventQuery, None]) -> web.StreamResponse:
    sse = SSE in call.request.headers.get("Accept", "")
    form = _sse if sse else _ndjson
    wanted = await _filter(call.host, call)
    response = web.StreamResponse(headers={"Content-Type": SSE if sse else NDJSON, "X-Accel-Buffering": "no"})
    with call.host.changes.subscribe() as changes:
        await response.prepare(call.request)
        await _write(response, form(api.ChangeView(id=0, kind="hello")))
        while (change := await _next(changes)) is not None:
            if change.kind in {"ping", "lagged"} or wanted(change):
                await _write(response, form(change))
    await response.write_eof()
    return response


async def _filter(host: Host, call: Call[queries.EventQuery, None]) -> Callable[[api.ChangeView], bool]:
    """Which changes this reader asked for."""
    query, wanted = call.query, set[tuple[str, str]]()
    if query.task is not None:
        wanted.add(("task", str((await tasks.find_task(host, call.actor, query.task)).id)))
    if query.node is not None:
        wanted.add(("node", _node(host.roster, query.node)))
    return lambda change: not wanted or (change.kind, change.ref) in wanted


def _node(roster: Roster, ref: str) -> str:
    return str(roster.find(ref).id)


async def _next(changes: Subscription) -> api.ChangeView | None:
    try:
        async with asyncio.timeout(PING_SECONDS):
            return await changes.next()
    except TimeoutError:
        return api.ChangeView(id=0, kind="ping")


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write(data)
    except TimeoutError:
        raise ConnectionResetError("the reader of the events takes nothing") from None


def _ndjson(change: api.ChangeView) -> bytes:
    return codec.encode(change) + b"\n"


def _sse(change: api.ChangeView) -> bytes:
    if change.kind == "ping":
        return b": ping\n\n"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (change.id, change.kind.encode(), codec.encode(change))
