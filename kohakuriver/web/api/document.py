"""The OpenAPI document over HTTP, as `app.py` made it from the route table."""

from aiohttp import web

from kohakuriver.web.call import DOCUMENT, Call
from kohakuriver.wire import queries


async def show_document(call: Call[queries.Query, None]) -> web.Response:
    """The document of exactly the routes that this host serves."""
    return web.Response(body=call.request.app[DOCUMENT], content_type="application/json")
