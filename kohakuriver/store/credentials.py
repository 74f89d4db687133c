"""What people and machines signed in with, as recorded: sessions, tokens, secrets for one use.

Holds hashes; which text has which hash is `host/credentials.py`'s to know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from kohakuriver.store.columns import micros, moment, moment_or_none
from kohakuriver.store.models import OnceRow, SessionRow, TokenRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import Statement, insert, update


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A signed-in browser. The id is the SHA-256 of its cookie, in hex."""

    id: str
    #: id of the account
    user: int
    created: datetime
    seen: datetime
    expires: datetime
    #: what the browser called itself
    client: str
    revoked: datetime | None


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token of a program."""

    id: str
    #: id of the account
    user: int
    name: str
    hash: str = field(repr=False)
    #: what it is for, in the words of host/callers.py
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None
    used: datetime | None
    revoked: datetime | None


@dataclass(frozen=True, kw_only=True)
class Once:
    """A secret for one use: a set-up link, a join token of a node, the first admin's secret."""

    id: str
    kind: str
    #: the user id or node name that it is bound to
    subject: str
    hash: str = field(repr=False)
    #: id of the account that made it
    created_by: int | None = None
    created: datetime
    expires: datetime
    used: datetime | None = None


async def session_by_id(reader: Reader, session: str) -> SessionRecord | None:
    """The session of that id, also one that ended."""
    rows = await reader.of(SessionRow).filter(id=session).values()
    return _session(rows[0]) if rows else None


async def sessions_of(reader: Reader, user: int, *, now: datetime, limit: int) -> list[SessionRecord]:
    """The user's sessions that were not ended and have not run out, newest first."""
    good = reader.of(SessionRow).filter(user_id=user, revoked__isnull=True, expires__gt=micros(now))
    return [_session(row) for row in await good.order_by("-created").limit(limit).values()]


async def session_ids(reader: Reader, user: int) -> list[str]:
    """The ids of the user's sessions that were not ended."""
    return [row["id"] for row in await reader.of(SessionRow).filter(user_id=user, revoked__isnull=True).values("id")]


async def token_by_id(reader: Reader, token: str) -> Token | None:
    """The token of that id, also one that ended."""
    rows = await reader.of(TokenRow).filter(id=token).values()
    return _token(rows[0]) if rows else None


async def tokens_of(reader: Reader, user: int, *, limit: int) -> list[Token]:
    """The user's tokens that were not ended, newest first."""
    good = reader.of(TokenRow).filter(user_id=user, revoked__isnull=True)
    return [_token(row) for row in await good.order_by("-created").limit(limit).values()]


async def once_by_id(reader: Reader, once: str) -> Once | None:
    """The secret of that id, also one that was used or ran out."""
    rows = await reader.of(OnceRow).filter(id=once).values()
    return _once(rows[0]) if rows else None


def end_sessions(user: int, now: datetime, *, but: str | None = None) -> Statement:
    """Ends the user's sessions, except one."""
    where: dict[str, object] = {"user_id": user, "revoked__isnull": True}
    if but is not None:
        where["id__ne"] = but
    return update(SessionRow, where=where, set={"revoked": now}, expect=None)


def end_tokens(user: int, now: datetime) -> Statement:
    """Ends the user's tokens."""
    return update(TokenRow, where={"user_id": user, "revoked__isnull": True}, set={"revoked": now}, expect=None)


def new_once(once: Once) -> Statement:
    """A new secret, not used yet."""
    return insert(
        OnceRow,
        id=once.id,
        kind=once.kind,
        subject=once.subject,
        hash=once.hash,
        created_by_id=once.created_by,
        created=once.created,
        expires=once.expires,
    )


def use_once(once: Once, now: datetime) -> Statement:
    """Uses it up. Fails its caller's commit with MovedOn when somebody else did, or it ran out."""
    good = {"id": once.id, "used__isnull": True, "expires__gt": now}
    return update(OnceRow, where=good, set={"used": now}, expect=1)


def end_once(kind: str, subject: str, now: datetime) -> Statement:
    """Ends the secrets of this kind that are bound to this subject and not used yet."""
    unused = {"kind": kind, "subject": subject, "used__isnull": True}
    return update(OnceRow, where=unused, set={"used": now}, expect=None)


def _session(row: Mapping[str, Any]) -> SessionRecord:
    return SessionRecord(
        id=row["id"],
        user=row["user_id"],
        created=moment(row["created"]),
        seen=moment(row["seen"]),
        expires=moment(row["expires"]),
        client=row["client"],
        revoked=moment_or_none(row["revoked"]),
    )


def _token(row: Mapping[str, Any]) -> Token:
    return Token(
        id=row["id"],
        user=row["user_id"],
        name=row["name"],
        hash=row["hash"],
        scopes=msgspec.json.decode(row["scopes"], type=tuple[str, ...]),
        created=moment(row["created"]),
        expires=moment_or_none(row["expires"]),
        used=moment_or_none(row["used"]),
        revoked=moment_or_none(row["revoked"]),
    )


def _once(row: Mapping[str, Any]) -> Once:
    return Once(
        id=row["id"],
        kind=row["kind"],
        subject=row["subject"],
        hash=row["hash"],
        created_by=row["created_by_id"],
        created=moment(row["created"]),
        expires=moment(row["expires"]),
        used=moment_or_none(row["used"]),
    )
