"""Environments, their versions, operations and images over HTTP: decode, call, encode."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from kohakuriver.domain.environments import parse_number
from kohakuriver.host.environments import images, orders, removal, versions
from kohakuriver.web.call import Call
from kohakuriver.web.uploads import pieces_of
from kohakuriver.wire import api, codec, envs_api, queries

#: seconds after which a reader that takes nothing is left
STALLED_SECONDS = 60.0

NoBody = Call[queries.Query, None]


async def list_environments(call: Call[queries.Paging, None]) -> api.Page[envs_api.EnvironmentView]:
    """All of them; there are few enough for one page."""
    return versions.list_environments(call.host, call.actor)


async def show_environment(call: NoBody) -> envs_api.EnvironmentView:
    """One of them."""
    return versions.show_environment(call.host, call.actor, call.part("environment"))


async def remove_environment(call: NoBody) -> envs_api.OperationView:
    """All versions of it go."""
    return await removal.remove_versions(call.host, call.actor, call.part("environment"), None)


async def remove_version(call: NoBody) -> envs_api.OperationView:
    """One version goes."""
    number = parse_number(call.part("version"))
    return await removal.remove_versions(call.host, call.actor, call.part("environment"), number)


async def build_version(call: Call[envs_api.BuildQuery, None]) -> envs_api.OperationView:
    """The body, a tar, goes to the builder as it comes."""
    pieces = pieces_of(call.request, call.host.settings.upload_most)
    return await orders.build_version(call.host, call.actor, call.part("environment"), call.query, pieces)


async def import_version(call: Call[envs_api.ImportQuery, None]) -> envs_api.OperationView:
    """The body, an archive of an image, goes to the builder as it comes."""
    pieces = pieces_of(call.request, call.host.settings.upload_most)
    return await orders.import_version(call.host, call.actor, call.part("environment"), call.query.note, pieces)


async def publish_reference(call: Call[queries.Query, envs_api.ReferenceAsk]) -> envs_api.OperationView:
    """An image as it is."""
    return await orders.publish_reference(call.host, call.actor, call.part("environment"), call.body)


async def list_stored(call: Call[envs_api.StoredQuery, None]) -> api.Page[envs_api.StoredView]:
    """What lies on the medium."""
    return await versions.list_stored(call.host, call.actor, call.query.syncer)


async def list_operations(call: Call[envs_api.OperationsQuery, None]) -> api.Page[envs_api.OperationView]:
    """Those that are remembered; there are few enough for one page."""
    return versions.list_operations(call.host, call.actor)


async def show_operation(call: Call[envs_api.OperationQuery, None]) -> envs_api.OperationView | web.StreamResponse:
    """How it stands; with `follow` a line for every change that the reader is quick enough for."""
    ref = call.part("operation")
    if not call.query.follow:
        return versions.show_operation(call.host, call.actor, ref)
    return await _follow(call.request, versions.follow_operation(call.host, call.actor, ref))


async def list_images(call: Call[queries.Paging, None]) -> api.Page[envs_api.ImageView]:
    """Of all nodes."""
    return await images.all_images(call.host, call.actor)


async def list_node_images(call: Call[queries.Paging, None]) -> api.Page[envs_api.ImageView]:
    """Of one node."""
    return await images.node_images(call.host, call.actor, call.part("node"))


async def _follow(request: web.Request, views: AsyncIterator[envs_api.OperationView]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": envs_api.NDJSON_TYPE, "X-Accel-Buffering": "no"})
    await response.prepare(request)
    async for view in views:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(codec.encode(view) + b"\n")
        except TimeoutError:
            raise ConnectionResetError("the reader of the operation takes nothing") from None
    await response.write_eof()
    return response
