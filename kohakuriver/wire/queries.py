"""Query parameters of the HTTP API as structs. All are optional, unknown ones are refused."""

from typing import Annotated

import msgspec
from msgspec import Meta

from kohakuriver.wire.api import Name

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(min_length=1, max_length=500, pattern="^[!-~]+$")]
Ref = Annotated[str, Meta(min_length=1, max_length=253)]
Bytes = Annotated[int, Meta(ge=0, le=2**62)]


class Query(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The part of a path after `?`."""


class Paging(Query, kw_only=True):
    """Which part of a list."""

    limit: Limit = 50
    cursor: Cursor | None = None


class TaskQuery(Paging, kw_only=True):
    """Which tasks. `status` may be given several times, or as words with commas; `mine` is `owner=me`."""

    status: list[Annotated[str, Meta(min_length=1, max_length=32)]] = []
    owner: Ref | None = None
    mine: bool = False
    node: Ref | None = None
    name: Name | None = None
    batch: Ref | None = None
    sort: Annotated[str, Meta(min_length=1, max_length=32)] = "-id"


class WaitQuery(Query, kw_only=True):
    """How many seconds to wait, a minute at most."""

    timeout: Annotated[float, Meta(ge=0, le=60)] = 30.0


class OutputQuery(Query, kw_only=True):
    """Which bytes of a stream: from `offset`, or the last `tail`; `limit` of them; `follow` waits for more."""

    attempt: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    offset: Bytes = 0
    limit: Bytes | None = None
    tail: Bytes | None = None
    follow: bool = False


class EventQuery(Paging, kw_only=True):
    """`follow` is a stream of changes from now on; without it the history, newest first."""

    limit: Limit = 100
    follow: bool = False
    task: Ref | None = None
    node: Ref | None = None


class UseQuery(Query, kw_only=True):
    """How many tasks at most."""

    limit: Limit = 200


class HealthQuery(Query, kw_only=True):
    """With the checks by name, or without."""

    verbose: bool = False
