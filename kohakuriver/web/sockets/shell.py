"""A terminal in an environment container: an HTTP/1.1 upgrade by a client, after which both directions are frames
(wire/frames.py), relayed to the builder and back.
"""

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from kohakuriver.errors import Invalid
from kohakuriver.host.environments.shell import Wanted, join_shell, opened_shell
from kohakuriver.web.call import Call
from kohakuriver.web.sockets.stream import RawConnection
from kohakuriver.wire import codec, envs_api
from kohakuriver.wire.link import STREAM_PROTOCOL

Words = list[Annotated[str, Meta(max_length=4096)]]


async def container_shell(call: Call[envs_api.ShellQuery, None]) -> web.StreamResponse:
    """Returns when the program has ended, or the client or the builder is gone."""
    request, query = call.request, call.query
    if request.headers.get("Upgrade", "").lower() != STREAM_PROTOCOL:
        raise Invalid(f"this needs `Upgrade: {STREAM_PROTOCOL}`", field="Upgrade")
    wanted = Wanted(
        container=call.part("container"),
        argv=codec.decode(query.argv, Words),
        columns=query.columns,
        rows=query.rows,
        term=query.term,
    )
    async with opened_shell(call.host, call.actor, wanted) as talk:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        client = RawConnection(transport, request.protocol)
        response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", "Upgrade": STREAM_PROTOCOL})
        try:
            await response.prepare(request)
            await join_shell(call.host, call.actor, wanted, talk, client)
        finally:
            client.close()
            request.protocol.force_close()
    return response
