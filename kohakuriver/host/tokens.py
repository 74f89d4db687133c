"""Sessions and API tokens: made, listed, ended. Only hashes are stored; the secret is shown once."""

import json
from datetime import datetime, timedelta

from kohakuriver.domain.access import Action, Actor, Owned, authorize
from kohakuriver.errors import NotFound
from kohakuriver.host import cause, credentials, records
from kohakuriver.host.callers import ALL, LOGIN, READ, Caller
from kohakuriver.host.host import Host
from kohakuriver.host.once import write_once
from kohakuriver.host.visitors import visitors
from kohakuriver.store.credentials import Token, session_ids, sessions_of, token_by_id, tokens_of
from kohakuriver.store.models import SessionRow, TokenRow
from kohakuriver.store.write import Statement, insert, update
from kohakuriver.wire import api, people

#: of a session's id, which is a hash, people see so much
SHOWN = 16
MOST_SHOWN = 1000
#: over plain HTTP anybody on the way can read a cookie, so it lives no longer than a day's work
PLAIN_SECONDS = 8 * 3600


def new_token(
    host: Host, user: int, name: str, word: str, expires: datetime | None
) -> tuple[credentials.Credential, Statement]:
    """A token and the statement that stores its hash. `word` says what it is for: host/callers.py."""
    token = credentials.make(credentials.USER)
    row = insert(
        TokenRow,
        id=token.id,
        user_id=user,
        name=name[:64],
        hash=token.digest,
        scopes=json.dumps([word]),
        created=host.clock.now(),
        expires=expires,
    )
    return token, row


def new_login(host: Host, user: int, name: str) -> tuple[credentials.Credential, Statement]:
    """A token for a program in exchange for a password."""
    expires = host.clock.now() + timedelta(days=host.settings.token_days)
    return new_token(host, user, name, LOGIN, expires)


def new_session(host: Host, user: int, client: str) -> tuple[str, Statement]:
    """The cookie of a new session and the statement that stores its hash. `client` is what the browser calls itself."""
    text, now = str(credentials.make(credentials.SESSION)), host.clock.now()
    secure = host.settings.public_url.lower().startswith("https:")
    most = host.settings.session_most if secure else min(PLAIN_SECONDS, host.settings.session_most)
    row = insert(
        SessionRow,
        id=session_id(text),
        user_id=user,
        created=now,
        seen=now,
        expires=now + timedelta(seconds=most),
        client=client[:200],
    )
    return text, row


def session_id(text: str) -> str:
    """What is stored of a cookie: the SHA-256 of all of it, in hex."""
    return credentials.fingerprint(text).hex()


async def list_tokens(host: Host, actor: Actor) -> api.Page[people.TokenView]:
    """The actor's own tokens that still count, newest first."""
    authorize(actor, Action.SELF)
    now = host.clock.now()
    tokens = await tokens_of(host.store.reader, actor.id, limit=MOST_SHOWN)
    return api.Page(items=[_token_view(token) for token in tokens if token.expires is None or token.expires > now])


async def create_token(
    host: Host, actor: Actor, request: people.NewToken, *, key: str | None = None
) -> people.TokenView:
    """A token for programs, shown once. Never outlives its life: without `expires` the configured days."""
    authorize(actor, Action.TOKEN_MINT)
    now = host.clock.now()
    life = timedelta(seconds=request.expires) if request.expires else timedelta(days=host.settings.token_days)
    word = READ if request.scope == "read" else ALL
    token, statement = new_token(host, actor.id, request.name, word, now + life)
    detail: dict[str, object] = {"token": token.id, "name": request.name, "scope": word}
    await write_once(host, actor, key, [statement, *_event(host, actor, "token_made", detail)])
    return people.TokenView(
        id=token.id,
        name=request.name[:64],
        scope=word,
        created=now,
        expires=now + life,
        used=None,
        token=str(token),
    )


async def revoke_token(host: Host, actor: Actor, id: str) -> None:
    """Ends a token at once; an admin may end anybody's. A second call is as good as the first. Raises NotFound."""
    shaped = len(id) == credentials.ID_LENGTH
    token = await token_by_id(host.store.reader, id) if shaped else None
    if token is None:
        raise _no_token(id)
    try:
        authorize(actor, Action.TOKEN_REVOKE, Owned(owner=token.user))
    except NotFound:
        raise _no_token(id) from None
    if token.revoked is not None:
        return
    revoked = {"revoked": host.clock.now()}
    ended = update(TokenRow, where={"id": id, "revoked__isnull": True}, set=revoked, expect=None)
    event = _event(host, actor, "token_revoked", {"token": id, "name": token.name}, user=token.user)
    await host.commits.write([ended, *event], lambda: visitors(host).callers.forget(token.user, id))


def _no_token(id: str) -> NotFound:
    return NotFound(f"there is no token {id!r}", field="token", value=id)


async def list_sessions(host: Host, caller: Caller) -> api.Page[people.SessionView]:
    """The caller's own sessions, newest first."""
    authorize(caller.actor, Action.SELF)
    now = host.clock.now()
    sessions = await sessions_of(host.store.reader, caller.actor.id, now=now, limit=MOST_SHOWN)
    idle = timedelta(seconds=host.settings.session_idle)
    views = [
        people.SessionView(
            id=session.id[:SHOWN],
            created=session.created,
            seen=session.seen,
            expires=session.expires,
            client=session.client,
            current=session.id == caller.credential,
        )
        for session in sessions
        if now - session.seen <= idle
    ]
    return api.Page(items=views)


async def revoke_session(host: Host, actor: Actor, id: str) -> None:
    """Ends one of the actor's own sessions at once, by the id that `list_sessions` shows. Raises NotFound."""
    authorize(actor, Action.SELF)
    found = [session for session in await session_ids(host.store.reader, actor.id) if session[:SHOWN] == id]
    if len(found) != 1:
        raise NotFound(f"you have no session {id!r}", field="session", value=id)
    await end_session(host, actor, found[0])


async def end_session(host: Host, actor: Actor, id: str) -> None:
    """Ends a session by its full id."""
    revoked = {"revoked": host.clock.now()}
    ended = update(SessionRow, where={"id": id, "user_id": actor.id}, set=revoked, expect=None)
    event = _event(host, actor, "session_ended", {"session": id[:SHOWN]})
    await host.commits.write([ended, *event], lambda: visitors(host).callers.forget(actor.id, id))


def _token_view(token: Token) -> people.TokenView:
    return people.TokenView(
        id=token.id,
        name=token.name,
        scope=token.scopes[0],
        created=token.created,
        expires=token.expires,
        used=token.used,
    )


def _event(
    host: Host, actor: Actor, what: str, detail: dict[str, object], *, user: int | None = None
) -> list[Statement]:
    subject = actor.id if user is None else user
    row = records.event(host.ids.next(), host.clock.now(), what, cause.by(actor), user=subject, detail=detail)
    return records.events([row])
