"""The host's HTTP application: the route table behind its doors, and the server that serves it."""

from collections.abc import Iterable

from aiohttp import web

from kohakuriver.host.host import Host
from kohakuriver.web.call import DOCUMENT, Route
from kohakuriver.web.door import door
from kohakuriver.web.gate import Bounds, GatedRunner
from kohakuriver.web.guard import Guard
from kohakuriver.web.middleware import make_middleware, make_stamp
from kohakuriver.web.openapi import make_document
from kohakuriver.web.routes import ROUTES
from kohakuriver.wire import api, codec

#: seconds that open answers get when the service stops
STOP_SECONDS = 5.0


def make_app(host: Host, routes: Iterable[Route] = ROUTES) -> web.Application:
    """The application. Raises ValueError for a route without a policy or two rows for one method and path."""
    rows = tuple(routes)
    guard = Guard(host.settings)
    app = web.Application(middlewares=[make_middleware(guard)], client_max_size=api.MOST_BODY)
    app[DOCUMENT] = codec.encode(make_document(rows))
    app.on_response_prepare.append(make_stamp(guard))
    for route in rows:
        app.router.add_route(route.method, route.path, door(host, guard, route))
    return app


def make_runner(host: Host, bounds: Bounds | None = None) -> web.AppRunner:
    """The server of the application. A handler ends when its client goes away; what it committed stays committed."""
    return GatedRunner(
        make_app(host),
        bounds=bounds or Bounds.of_this_process(),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=STOP_SECONDS,
    )
