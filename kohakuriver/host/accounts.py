"""Who somebody is: by token, by cookie, by password, by a one-time secret; and the first admin. No HTTP.

What they may do is `domain.access.authorize`'s. Credentials are looked up once and remembered in `visitors.py`.
"""

import asyncio
import json
import logging
import os
import pwd
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from kohakuriver.domain.access import Actor, How, Role, parse_role
from kohakuriver.domain.access import Scope as Reach
from kohakuriver.domain.ids import LONGEST_USER_NAME
from kohakuriver.errors import KohakuRiverError, NotSignedIn
from kohakuriver.hooks.auth import AuthContext
from kohakuriver.host import credentials
from kohakuriver.host.callers import ALL, FRESH, LAB, LOGIN, READ, Caller, Remembered
from kohakuriver.host.host import Host
from kohakuriver.host.providers import open_provider
from kohakuriver.host.tokens import SHOWN, new_token, session_id
from kohakuriver.host.users import FIRST, active_user, ensure_admin
from kohakuriver.host.visitors import visitors
from kohakuriver.store.accounts import ACTIVE, User, any_user
from kohakuriver.store.credentials import Once, end_once, new_once, session_by_id, token_by_id
from kohakuriver.store.models import SessionRow, TokenRow
from kohakuriver.store.write import update

log = logging.getLogger(__name__)

#: a use is stored at most this often
WRITE_USE_SECONDS = 60.0
LOCAL_USER = "local"
LAB_TOKEN = "lab"  # noqa: S105 - a name, not a secret
FIRST_HOURS = 24


async def open_accounts(host: Host) -> None:
    """Opens the auth providers. Called once, before the first request; without sign-in everybody is the admin `local`.

    Raises PluginError when a provider cannot work at all.
    """
    if host.plugins is not None:
        context = AuthContext(in_thread=host.threads.password)
        for kind in host.plugins.auth_providers().values():
            visitors(host).providers.append(await open_provider(kind, context))
    visitors(host).known.limit(rate=host.settings.rate, burst=max(1, host.settings.burst))
    if not host.settings.auth:
        user = await ensure_admin(host, LOCAL_USER)
        actor = Actor(id=user.id, name=user.name, role=Role.ADMIN, how=How.LOCAL, fresh=True)
        visitors(host).nobody = Caller(actor=actor)


async def identify(host: Host, *, token: str | None, cookie: str | None, address: str) -> Caller:
    """Who shows these. A token counts before a cookie. Raises NotSignedIn, or TooMany for who guesses too fast.

    On the usual path nothing is read and nothing hashed but the credential itself.
    """
    known = visitors(host)
    if known.nobody is not None:
        return known.nobody
    text = token or cookie
    if not text:
        known.strangers.take(address, host.clock.monotonic())
        raise NotSignedIn("sign in first: `kohakuriver auth login`")
    found = known.callers.get(text)
    if found is None:
        generation = known.callers.generation
        found = await (_from_token(host, text) if token else _from_cookie(host, text))
        if found is None:
            known.strangers.take(address, host.clock.monotonic())
            raise NotSignedIn("this credential is not valid, or ran out; sign in again: `kohakuriver auth login`")
        known.callers.remember(text, found, generation)
    return _used(host, text, found)


def _used(host: Host, text: str, found: Remembered) -> Caller:
    now, tick = host.clock.now(), host.clock.monotonic()
    caller = found.at(now)
    idle = caller.cookie and tick - found.used > host.settings.session_idle
    if idle or (caller.expires is not None and caller.expires <= now):
        visitors(host).callers.drop(text)
        raise NotSignedIn("this sign-in ran out; sign in again: `kohakuriver auth login`")
    found.used = tick
    if caller.credential and tick - found.written >= WRITE_USE_SECONDS:
        found.written = tick
        host.group.create_task(_write_use(host, caller))
    return caller


async def _write_use(host: Host, caller: Caller) -> None:
    now = host.clock.now()
    statement = (
        update(SessionRow, where={"id": caller.credential}, set={"seen": now}, expect=None)
        if caller.cookie
        else update(TokenRow, where={"id": caller.credential}, set={"used": now}, expect=None)
    )
    try:
        await host.store.writer.write([statement])
    except KohakuRiverError as error:
        log.warning("last use of a credential was not stored: %s", error, extra={"action": "identify"})


async def _from_token(host: Host, text: str) -> Remembered | None:
    shown = credentials.parse(text, credentials.USER)
    if shown is None:
        return None
    token = await token_by_id(host.store.reader, shown.id)
    if token is None or not shown.matches(token.hash) or token.revoked is not None:
        return None
    user = await active_user(host, token.user)
    if user is None:
        return None
    since = token.created
    actor = replace(token_actor(user, token.scopes), via=token.id)
    fresh = actor.how is How.LOCAL or (actor.how is How.SESSION and host.clock.now() - since < FRESH)
    caller = Caller(
        actor=replace(actor, fresh=fresh),
        credential=token.id,
        since=None if actor.how is How.LOCAL else since,
        expires=token.expires,
    )
    return _remembered(host, caller, token.used)


async def _from_cookie(host: Host, text: str) -> Remembered | None:
    if credentials.parse(text, credentials.SESSION) is None:
        return None
    session = await session_by_id(host.store.reader, session_id(text))
    now = host.clock.now()
    if session is None or session.revoked is not None:
        return None
    if now - session.seen > timedelta(seconds=host.settings.session_idle):
        return None
    user = await active_user(host, session.user)
    if user is None:
        return None
    since = session.created
    actor = Actor(
        id=user.id,
        name=user.name,
        role=parse_role(user.role),
        how=How.SESSION,
        fresh=now - since < FRESH,
        via=session.id[:SHOWN],
    )
    caller = Caller(actor=actor, credential=session.id, cookie=True, since=since, expires=session.expires)
    return _remembered(host, caller, session.seen)


def _remembered(host: Host, caller: Caller, last_use: datetime | None) -> Remembered:
    tick = host.clock.monotonic()
    ago = WRITE_USE_SECONDS
    if last_use is not None:
        ago = max(0.0, (host.clock.now() - last_use).total_seconds())
    return Remembered(caller=caller, written=tick - min(ago, WRITE_USE_SECONDS), used=tick)


def token_actor(user: User, words: Sequence[str]) -> Actor:
    """The actor behind a token with these words: a login is as a session, the lab's file as being at the machine."""
    how = How.SESSION if LOGIN in words else How.LOCAL if LAB in words else How.TOKEN
    scopes = None if how is not How.TOKEN or ALL in words else frozenset({Reach.READ} if READ in words else ())
    return Actor(id=user.id, name=user.name, role=parse_role(user.role), how=how, scopes=scopes)


async def first_secret(host: Host) -> str | None:
    """The one-time secret with which somebody becomes the first admin; None once anybody has an account.

    Each call ends the secret of the one before, so that only the last start's is good.
    """
    if await any_user(host.store.reader):
        return None
    now = host.clock.now()
    secret = credentials.make(credentials.FIRST_ADMIN)
    once = Once(
        id=secret.id,
        kind=FIRST,
        subject="",
        hash=secret.digest,
        created=now,
        expires=now + timedelta(hours=FIRST_HOURS),
    )
    await host.store.writer.write([end_once(once.kind, once.subject, now), new_once(once)])
    return str(secret)


async def lab_token(host: Host, path: Path, *, url: str) -> str | None:
    """Signs in the commands of the account that runs the lab: an admin named after it, and a 0600 file with a token.

    The token of an earlier start ends. Returns the user's name; None where that account was disabled here.
    """
    person = await ensure_admin(host, own_name())
    if person.state != ACTIVE:
        return None
    now = host.clock.now()
    older = {"user_id": person.id, "name": LAB_TOKEN, "revoked__isnull": True}
    token, row = new_token(host, person.id, LAB_TOKEN, LAB, None)
    await host.commits.write(
        [update(TokenRow, where=older, set={"revoked": now}, expect=None), row],
        lambda: visitors(host).callers.forget(person.id),
    )
    await asyncio.to_thread(_write_private, path, json.dumps({"url": url, "token": str(token)}) + "\n")
    return person.name


def own_name() -> str:
    """A user name for the account that this process runs as."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid{os.geteuid()}"
    fine = re.sub(r"[^a-z0-9._-]", "_", name.lower())[:LONGEST_USER_NAME].rstrip(".")
    return fine if fine[:1].isalpha() else f"u{fine}"[:LONGEST_USER_NAME]


def _write_private(path: Path, text: str) -> None:
    """Replaces the file at once by one that only its owner reads."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
