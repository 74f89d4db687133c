"""Connections before they say anything: how long a request may take to arrive, and how many one address may hold.

aiohttp has neither bound. Knows no request; a connection counts until it is closed, also one that became a stream.
"""

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from aiohttp import web

#: seconds from the connection to the end of its first request's headers
HEADER_SECONDS = 20.0
#: seconds that an idle connection is kept, and that a later request on it may take for its headers
IDLE_SECONDS = 75.0
MOST_PER_ADDRESS = 1000
#: bytes of a request's first line: a path of a file, percent-encoded, is a part of it
LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one connection and one address may take. Addresses of this machine are not counted: a proxy is one."""

    header_seconds: float = HEADER_SECONDS
    idle_seconds: float = IDLE_SECONDS
    most_per_address: int = MOST_PER_ADDRESS
    count_loopback: bool = False

    @classmethod
    def of_this_process(cls) -> "Bounds":
        """No address may hold more than a quarter of the files that this process may open."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_PER_ADDRESS if soft == resource.RLIM_INFINITY else min(MOST_PER_ADDRESS, max(16, soft // 4))
        return cls(most_per_address=most)


class GatedRunner(web.AppRunner):
    """An AppRunner whose connections pass the gate."""

    def __init__(self, app: web.Application, *, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(app, keepalive_timeout=bounds.idle_seconds, **kwargs)
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        idle = self._bounds.idle_seconds
        return _GatedServer(made, self._bounds, keepalive_timeout=idle, max_line_size=LONGEST_LINE)


class _GatedServer(web.Server):
    """The same handler, with a count of connections and a timer on each until its first request is read."""

    def __init__(self, made: web.Server, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(
            made.request_handler,
            request_factory=self._entered,
            handler_cancellation=made.handler_cancellation,
            access_log=None,
            **kwargs,
        )
        self._make = made.request_factory
        self._bounds = bounds
        self._held: Counter[str] = Counter()
        self._addresses: dict[web.RequestHandler, str] = {}
        self._timers: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        address = _address(transport.get_extra_info("peername"), count_loopback=self._bounds.count_loopback)
        if address is not None:
            self._addresses[handler] = address
            self._held[address] += 1
            if self._held[address] > self._bounds.most_per_address:
                transport.abort()
                return
        loop = asyncio.get_running_loop()
        self._timers[handler] = loop.call_later(self._bounds.header_seconds, self._late, handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._arrived(handler)
        address = self._addresses.pop(handler, None)
        if address is not None:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]

    def _entered(self, message: Any, payload: Any, protocol: web.RequestHandler, writer: Any, task: Any) -> Any:
        self._arrived(protocol)
        return self._make(message, payload, protocol, writer, task)

    def _arrived(self, handler: web.RequestHandler) -> None:
        timer = self._timers.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _late(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._timers.pop(handler, None)
        transport.abort()


def _address(peer: object, *, count_loopback: bool) -> str | None:
    """What is counted as one: the address; None for this machine itself."""
    if not isinstance(peer, tuple) or not peer:
        return None
    text = str(peer[0])
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    return None if parsed.is_loopback and not count_loopback else text
