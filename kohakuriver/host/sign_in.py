"""Passwords: signing in and out, first use of an account, and a change of the password.

Every attempt is counted before anything costly happens; an unknown name costs and answers as a wrong password.
"""

from dataclasses import dataclass, replace

from kohakuriver.domain.access import Action, How, Role, authorize
from kohakuriver.domain.ids import check_user_name
from kohakuriver.errors import Conflict, Gone, Invalid, MovedOn, NotSignedIn
from kohakuriver.hooks.auth import CanKeepPasswords, Credentials
from kohakuriver.host import cause, credentials, records
from kohakuriver.host.callers import Caller
from kohakuriver.host.host import Host
from kohakuriver.host.passwords import check_password
from kohakuriver.host.providers import ask
from kohakuriver.host.tokens import end_session, new_login, new_session, revoke_token
from kohakuriver.host.users import FIRST, SETUP, active_user, learn, user_view
from kohakuriver.host.visitors import visitors
from kohakuriver.store.accounts import ACTIVE, DISABLED, Identity, User, find_identity, new_user, user_by_id
from kohakuriver.store.credentials import Once, end_sessions, once_by_id, use_once
from kohakuriver.store.models import IdentityRow, UserRow
from kohakuriver.store.write import ConstraintFailed, Statement, insert, update
from kohakuriver.wire import people

WRONG = "wrong name or password"


@dataclass(frozen=True, kw_only=True)
class Entered:
    """Somebody who signed in: the answer, and the cookie of a session unless a token was asked for."""

    answer: people.SignedIn
    cookie: str | None = None


@dataclass(frozen=True, kw_only=True)
class From:
    """Where an attempt comes from. `client` is what the program calls itself."""

    address: str
    client: str = ""


async def login(host: Host, request: people.Login, where: From) -> Entered:
    """Signs in by name and password. Raises NotSignedIn, or TooMany after wrong attempts."""
    name, attempts = request.user.lower(), visitors(host).attempts
    attempts.check(name, where.address, host.clock.monotonic())
    identity = await _authenticate(host, name, request.password)
    user = None if identity is None else await active_user(host, identity.user)
    if identity is None or user is None:
        attempts.failed(name, where.address, host.clock.monotonic())
        raise NotSignedIn(WRONG)
    attempts.succeeded(name, where.address)
    return await _enter(host, user, request.token, where, await _renewed(host, identity, request.password))


async def logout(host: Host, caller: Caller) -> None:
    """Ends the session, or the token that a password was exchanged for. An API token is ended by `revoke_token`."""
    if caller.cookie:
        await end_session(host, caller.actor, caller.credential)
    elif caller.actor.how is How.SESSION:
        await revoke_token(host, caller.actor, caller.credential)


async def change_password(host: Host, caller: Caller, request: people.ChangePassword, where: From) -> None:
    """A new password for who knows the old one; ends the user's other sessions."""
    actor, attempts = caller.actor, visitors(host).attempts
    authorize(actor, Action.PASSWORD_CHANGE)
    check_password(request.new, actor.name, field="new")
    attempts.check(actor.name, where.address, host.clock.monotonic())
    identity = await _authenticate(host, actor.name, request.old)
    if identity is None or identity.user != actor.id:
        attempts.failed(actor.name, where.address, host.clock.monotonic())
        raise Invalid("the old password is wrong", field="old")
    provider, keeper = visitors(host).keeper()
    if identity.provider != provider:
        raise Conflict(f"your password is kept by {identity.provider}; change it there")
    kept, now = await keeper.keep(request.new), host.clock.now()
    event = records.event(host.ids.next(), now, "password_changed", cause.by(actor), user=actor.id)
    statements = [
        update(IdentityRow, where={"id": identity.id, "secret": identity.secret}, set={"secret": kept}, expect=1),
        end_sessions(actor.id, now, but=caller.credential),
        *records.events([event]),
    ]
    await host.commits.write(statements, lambda: visitors(host).callers.forget(actor.id, but=caller.credential))


async def setup(host: Host, request: people.Setup, where: From) -> Entered:
    """First use of an account by its link, or of the cluster by the secret of its first start.

    Raises Gone for a secret that was used or ran out, Invalid for a bad password or name.
    """
    attempts, tick = visitors(host).attempts, host.clock.monotonic()
    attempts.check("setup", where.address, tick)
    once = await _once(host, request.secret)
    if once is None:
        attempts.failed("setup", where.address, tick)
        raise Gone("this secret was used already, or ran out; ask an admin for a new link", field="secret")
    user, statements = await (_first(host, request) if once.kind == FIRST else _invited(host, once))
    check_password(request.password, user.name)
    provider, keeper = visitors(host).keeper()
    kept, now = await keeper.keep(request.password), host.clock.now()
    event = records.event(
        host.ids.next(), now, "user_set_up", cause.Cause(actor=user.name, user=user.id), user=user.id,
        detail={"name": user.name, "address": where.address},
    )  # fmt: skip
    statements = [
        use_once(once, now),
        *statements,
        await _keep(host, user, provider, kept),
        end_sessions(user.id, now),
        *records.events([event]),
    ]

    def then() -> None:
        if once.kind == FIRST:
            learn(host, user)
        visitors(host).callers.forget(user.id)
        host.changes.publish("user", user.id, user.state)

    try:
        await host.commits.write(statements, then)
    except (MovedOn, ConstraintFailed):
        raise Gone("this secret was used a moment ago, or the name was taken; look again", field="secret") from None
    return await _enter(host, user, request.token, where, [])


async def _authenticate(host: Host, name: str, password: str) -> Identity | None:
    """Asks the providers in turn. An identity that nobody here has is nobody."""
    for provider in visitors(host).providers:
        known = await find_identity(host.store.reader, provider.name, name)
        stored = None if known is None else known.secret
        found = await ask(provider, Credentials(user=name, password=password, stored=stored))
        if found is not None:
            same = known is not None and known.subject == found.subject
            return known if same else await find_identity(host.store.reader, provider.name, found.subject)
    return None


async def _renewed(host: Host, identity: Identity, password: str) -> list[Statement]:
    """A better hash where the provider would make one today."""
    for provider in visitors(host).providers:
        if provider.name == identity.provider and isinstance(provider, CanKeepPasswords):
            if identity.secret is None or not provider.outdated(identity.secret):
                return []
            kept = await provider.keep(password)
            same = {"id": identity.id, "secret": identity.secret}
            return [update(IdentityRow, where=same, set={"secret": kept}, expect=None)]
    return []


async def _enter(host: Host, user: User, token_name: str | None, where: From, statements: list[Statement]) -> Entered:
    """Signs the user in: a token for a program that names one, else a session."""
    detail = {"address": where.address, "as": "token" if token_name else "session"}
    by = cause.Cause(actor=user.name, user=user.id)
    event = records.event(host.ids.next(), host.clock.now(), "signed_in", by, user=user.id, detail=detail)
    if token_name is None:
        cookie, row = new_session(host, user.id, where.client)
        await host.store.writer.write([row, *statements, *records.events([event])])
        return Entered(answer=people.SignedIn(user=user_view(user)), cookie=cookie)
    token, row = new_login(host, user.id, token_name)
    await host.store.writer.write([row, *statements, *records.events([event])])
    return Entered(answer=people.SignedIn(user=user_view(user), token=str(token)))


async def _once(host: Host, text: str) -> Once | None:
    for kind, word in ((credentials.INVITATION, SETUP), (credentials.FIRST_ADMIN, FIRST)):
        shown = credentials.parse(text.strip(), kind)
        if shown is None:
            continue
        once = await once_by_id(host.store.reader, shown.id)
        good = once is not None and once.kind == word and shown.matches(once.hash) and once.used is None
        return once if once is not None and good and once.expires > host.clock.now() else None
    return None


async def _first(host: Host, request: people.Setup) -> tuple[User, list[Statement]]:
    if request.user is None:
        raise Invalid("name the first admin", field="user")
    name = check_user_name(request.user.lower(), field="user")
    user = User(id=host.ids.next(), name=name, role=Role.ADMIN.word, state=ACTIVE, created=host.clock.now())
    return user, [new_user(user)]


async def _invited(host: Host, once: Once) -> tuple[User, list[Statement]]:
    user = await user_by_id(host.store.reader, int(once.subject))
    if user is None or user.state == DISABLED:
        raise Gone("this account is disabled; ask an admin", field="secret")
    statement = update(UserRow, where={"id": user.id, "state": user.state}, set={"state": ACTIVE}, expect=1)
    return replace(user, state=ACTIVE), [statement]


async def _keep(host: Host, user: User, provider: str, kept: str) -> Statement:
    known = await find_identity(host.store.reader, provider, user.name)
    if known is None:
        return insert(
            IdentityRow, id=host.ids.next(), user_id=user.id, provider=provider, subject=user.name, secret=kept
        )
    return update(IdentityRow, where={"id": known.id, "user_id": user.id}, set={"secret": kept}, expect=1)
