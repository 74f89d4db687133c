"""Contents of environments, for nodes alone: which are missing, bring one, fetch one (wire.environments.MissingAsk)."""

from aiohttp import web

from kohakuriver.host.environments import access
from kohakuriver.web.call import Call
from kohakuriver.web.uploads import pieces_of, size_of
from kohakuriver.wire import queries
from kohakuriver.wire.environments import BLOB_TYPE, Missing, MissingAsk


async def list_missing(call: Call[queries.Query, MissingAsk]) -> Missing:
    """Those that the host has not got."""
    return Missing(digests=access.missing(call.host, call.node or 0, call.body.digests))


async def put_blob(call: Call[queries.Query, None]) -> None:
    """Takes one, as it comes."""
    pieces = pieces_of(call.request, call.host.settings.upload_most)
    await access.bring(call.host, call.node or 0, call.part("digest"), size_of(call.request), pieces)


async def get_blob(call: Call[queries.Query, None]) -> web.StreamResponse:
    """The file, or the part of it that is asked for; the kernel sends it where it can."""
    path = access.place(call.host, call.node or 0, call.part("digest"))
    return web.FileResponse(path, headers={"Content-Type": BLOB_TYPE})
