"""What a handler is given, and what a row of the route table is. Knows no handler."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec
from aiohttp import web

from kohakuriver.domain.access import Action, Actor
from kohakuriver.errors import Malformed
from kohakuriver.host.callers import Caller
from kohakuriver.host.host import Host
from kohakuriver.host.once import HEADER

#: the OpenAPI document of this application, as bytes
DOCUMENT: web.AppKey[bytes] = web.AppKey("document", bytes)

Query = TypeVar("Query")
Body = TypeVar("Body")


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[Query, Body]):
    """One request, read and checked."""

    host: Host
    request: web.Request
    query: Query
    body: Body
    #: the body as it came
    raw: bytes
    #: address of the client
    address: str
    #: None where the policy asks for nobody
    known: Caller | None = None
    #: id of the node, where the policy is for nodes
    node: int | None = None

    @property
    def caller(self) -> Caller:
        """Who asks. Only routes whose policy asks for somebody may look."""
        assert self.known is not None
        return self.known

    @property
    def actor(self) -> Actor:
        return self.caller.actor

    @property
    def key(self) -> str | None:
        """The Idempotency-Key. Raises Malformed for more than one."""
        keys = self.request.headers.getall(HEADER, [])
        if len(keys) > 1:
            raise Malformed(f"more than one {HEADER}", field=HEADER)
        return keys[0] if keys else None

    def part(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]


Handler = Callable[[Call[Any, Any]], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of the table: everything that is true of a route before anybody calls it."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    #: needed where two rows share a handler
    name: str = ""
    #: what the caller must be allowed to do, before the thing itself is looked at; None stops the start
    policy: Action | None = None
    #: anybody on this machine may as well
    loopback: bool = False
    summary: str
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    #: the body is bytes, taken by the handler as they come
    upload: bool = False
    #: type of the answer; None: no content
    answer: Any = None
    status: int = 200
    #: what is answered besides `answer`
    media: tuple[str, ...] = ("application/json",)
    #: the answer takes as long as the caller likes
    long: bool = False
    #: takes an Idempotency-Key, and answers a repeated one as it did before, or, where a secret is shown, by 409
    key: Literal["", "replays", "once"] = ""
    #: an upgrade, not an answer
    socket: bool = False

    @property
    def operation(self) -> str:
        """The operation's id: its name, or that of its handler."""
        return self.name or self.handler.__name__

    @property
    def parts(self) -> tuple[str, ...]:
        """The names in braces."""
        return tuple(piece.partition("}")[0] for piece in self.path.split("{")[1:])
