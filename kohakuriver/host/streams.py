"""Streams that runners open because we asked: one-use tickets, and what arrives joined with who waits for it.

A ticket lives in memory, 10 seconds, bound to node, attempt and kind; the node's credential is needed as well.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from kohakuriver.errors import Gone, NotFound, TooMany, Unreachable
from kohakuriver.wire import link

MOST_WAITING_PER_NODE = 64


class Connection(Protocol):
    """Raw bytes from and to a runner, with back-pressure."""

    async def read(self, most: int) -> bytes:
        """Some bytes; b"" at the end. Raises ConnectionError when it broke off."""

    async def read_exactly(self, count: int) -> bytes:
        """So many bytes. Raises EOFError when it ends before."""

    async def read_line(self) -> bytes:
        """Up to and with the next newline, or what there was at the end. Raises ConnectionError for one without end."""

    async def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class Ticket:
    """A stream that was asked for."""

    node: int
    attempt: str
    kind: str
    arrived: asyncio.Future[Connection]
    connection: Connection | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """All tickets and open streams of the host."""

    def __init__(self, dial: Callable[[int, link.Dial], bool]) -> None:
        """`dial` hands a message to the node's live session, and says False when there is none."""
        self._dial = dial
        self._tickets: dict[str, Ticket] = {}
        self._open: dict[int, set[Ticket]] = {}

    @asynccontextmanager
    async def open(self, node: int, kind: str, attempt: str, **arguments: str) -> AsyncIterator[Connection]:
        """A stream to the node for the length of the block. Raises Unreachable when the runner does not come."""
        if sum(ticket.node == node for ticket in self._tickets.values()) >= MOST_WAITING_PER_NODE:
            raise TooMany("too many streams of this node are being opened; try again")
        secret = secrets.token_urlsafe(32)
        ticket = Ticket(node=node, attempt=attempt, kind=kind, arrived=asyncio.get_running_loop().create_future())
        self._tickets[secret] = ticket
        try:
            asked = self._dial(node, link.Dial(ticket=secret, kind=kind, attempt=attempt, arguments=arguments))
            if not asked:
                raise Unreachable("the node is not connected; its output comes when it is back")
            try:
                async with asyncio.timeout(link.TICKET_SECONDS):
                    connection = await ticket.arrived
            except TimeoutError:
                raise Unreachable("the node did not open the stream in time; try again") from None
            yield connection
        finally:
            self._tickets.pop(secret, None)
            self._open.get(node, set()).discard(ticket)
            self._finish(ticket)

    def take(self, secret: str, node: int) -> Ticket:
        """The ticket that a runner shows, taken so that it is good once; `serve` follows. Raises NotFound or Gone."""
        ticket = self._tickets.get(secret)
        if ticket is None or ticket.node != node:
            raise NotFound("no such ticket")
        del self._tickets[secret]
        if ticket.arrived.done():
            raise Gone("this ticket ran out")
        self._open.setdefault(node, set()).add(ticket)
        return ticket

    async def serve(self, ticket: Ticket, connection: Connection) -> None:
        """Gives the connection to who waits, and returns when they are done with it."""
        if ticket.arrived.done():
            connection.close()
            return
        ticket.connection = connection
        ticket.arrived.set_result(connection)
        try:
            await ticket.done.wait()
        finally:
            connection.close()

    def refused(self, secret: str, node: int, reason: str) -> None:
        """The runner cannot open it."""
        ticket = self._tickets.get(secret)
        if ticket is not None and ticket.node == node:
            _fail(ticket, f"the node cannot open the stream: {reason[:200]}")

    def link_lost(self, node: int) -> None:
        """Waiting dials of the node fail; open streams go on (contracts.md §2)."""
        for ticket in self._tickets.values():
            if ticket.node == node:
                _fail(ticket, "the link to the node was lost")

    def revoke(self, node: int) -> None:
        """Ends every stream of the node."""
        self.link_lost(node)
        for ticket in list(self._open.get(node, ())):
            _fail(ticket, "the node was cut off")
            self._finish(ticket)

    def close(self) -> None:
        """Ends every stream."""
        for node in {ticket.node for ticket in self._tickets.values()} | set(self._open):
            self.revoke(node)

    def _finish(self, ticket: Ticket) -> None:
        if ticket.arrived.done() and not ticket.arrived.cancelled():
            ticket.arrived.exception()
        else:
            ticket.arrived.cancel()
        if ticket.connection is not None:
            ticket.connection.close()
        ticket.done.set()


def _fail(ticket: Ticket, reason: str) -> None:
    """Tells who waits for the connection that it does not come."""
    if not ticket.arrived.done():
        ticket.arrived.set_exception(Unreachable(reason))
