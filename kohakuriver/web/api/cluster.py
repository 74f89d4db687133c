"""The cluster as a whole over HTTP: numbers, plugins, versions, and whether it is well."""

import asyncio
import shutil
from collections.abc import Callable, Mapping

from aiohttp import web

from kohakuriver import __version__
from kohakuriver.domain.access import Action, authorize
from kohakuriver.errors import KohakuRiverError
from kohakuriver.hooks.manager import Found
from kohakuriver.host import accounts, credentials, tasks
from kohakuriver.host.host import Host
from kohakuriver.store.models import MetaRow
from kohakuriver.store.write import lock
from kohakuriver.web.api.plugins import with_nodes
from kohakuriver.web.call import Call
from kohakuriver.web.guard import is_local
from kohakuriver.web.metrics import measure
from kohakuriver.wire import api, codec, queries

PRODUCT = "KohakuRiver"
#: a scheduler that did not pass for so long hangs; it passes every two seconds with nothing to do
SLOWEST_LOOP = 15.0
CHECK_SECONDS = 5.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def show_status(call: Call[queries.Query, None]) -> api.StatusView:
    """The cluster in a few numbers."""
    return await tasks.cluster_status(call.host, call.actor)


async def list_plugins(call: Call[queries.Paging, None]) -> api.Page[api.PluginView]:
    """What is installed on the host, and what the nodes have."""
    authorize(call.actor, Action.ABOUT)
    plugins = call.host.plugins
    own = [] if plugins is None else [_plugin(found) for found in plugins.list()]
    return api.Page(items=list(with_nodes(own, call.host.roster.live())))


async def show_version(call: Call[queries.Query, None]) -> api.VersionView:  # noqa: ARG001 - handlers are alike
    """What answers here."""
    return api.VersionView(product=PRODUCT, version=__version__)


async def show_liveness(call: Call[queries.Query, None]) -> api.HealthView:  # noqa: ARG001 - handlers are alike
    """Whether the process answers."""
    return api.HealthView(ok=True)


async def show_readiness(call: Call[queries.HealthQuery, None]) -> web.Response:
    """Whether it can do its work: 200 or 503. `?verbose` says what is wrong, to this machine and who is signed in."""
    if call.query.verbose and not is_local(call.request):
        token = credentials.bearer(call.request.headers.get("Authorization"))
        await accounts.identify(call.host, token=token, cookie=None, address=call.address)
    checks = await run_checks(call.host)
    ok = all(word == "ok" for word in checks.values())
    view = api.HealthView(ok=ok, checks=dict(checks) if call.query.verbose else {})
    headers = {} if ok else {"Retry-After": "2"}
    return web.Response(
        body=codec.encode(view), status=200 if ok else 503, content_type="application/json", headers=headers
    )


async def show_metrics(call: Call[queries.Query, None]) -> web.Response:
    """Numbers for a monitoring system."""
    return web.Response(body=(await measure(call.host)).encode(), headers={"Content-Type": METRICS_TYPE})


async def run_checks(host: Host) -> Mapping[str, str]:
    """Each check by name: `ok` or what is wrong."""
    checks: Mapping[str, Callable[[Host], str]] = {"scheduler": _loops, "disk": _disk}
    return {"store": await _store(host), **{name: check(host) for name, check in checks.items()}}


async def _store(host: Host) -> str:
    """Writes nothing, but takes the whole way of a write."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await host.store.writer.write([lock(MetaRow, key="cluster")])
    except TimeoutError:
        return "does not answer"
    except KohakuRiverError as error:
        return error.code
    return "ok"


def _loops(host: Host) -> str:
    return "ok" if host.clock.monotonic() - host.scheduler.last_pass < SLOWEST_LOOP else "does not run"


def _disk(host: Host) -> str:
    try:
        free = shutil.disk_usage(host.settings.data_dir).free
    except OSError:
        return "cannot be read"
    return "ok" if free >= host.settings.disk_floor else "full"


def _plugin(found: Found) -> api.PluginView:
    distribution, _, version = found.distribution.partition(" ")
    return api.PluginView(
        name=found.name,
        distribution=distribution,
        version=version,
        module=found.module,
        api=found.api_version,
        state=found.state,
        problem=found.problem,
        provides=[
            *(f"backend {name}" for name in found.backends),
            *(f"syncer {name}" for name in found.syncers),
            *(f"auth {name}" for name in found.providers),
        ],
    )
