"""Accounts of people: found, listed, invited, changed, disabled. Never deleted, and ids are never given twice."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from kohakuriver.domain.access import Action, Actor, Granting, Role, authorize, parse_role
from kohakuriver.domain.ids import check_user_name
from kohakuriver.domain.limits import Held
from kohakuriver.domain.resources import MILLI
from kohakuriver.errors import Conflict, MovedOn, NotFound
from kohakuriver.host import cause, credentials, records
from kohakuriver.host.host import Host
from kohakuriver.host.once import write_once
from kohakuriver.host.owners import person_of
from kohakuriver.host.visitors import visitors
from kohakuriver.store.accounts import (
    ACTIVE,
    DISABLED,
    INVITED,
    User,
    another_admin,
    new_user,
    user_by_id,
    user_named,
    users_after,
)
from kohakuriver.store.credentials import Once, end_once, end_sessions, end_tokens, new_once
from kohakuriver.store.models import UserRow
from kohakuriver.store.write import ConstraintFailed, Statement, update
from kohakuriver.wire import api, people

#: what an operator may limit, and the number that means the cluster's default again
LIMITS = ("most_open", "most_running", "most_cores", "most_memory", "most_devices")
DEFAULT = -1
#: kinds of one-use secrets: for an account's set-up, and for the first admin's
SETUP, FIRST = "setup", "admin"
SETUP_HOURS = 72


async def find_user(host: Host, ref: str) -> User:
    """By name or id. Raises NotFound."""
    user = await user_named(host.store.reader, ref.lower())
    if user is None and ref.isascii() and ref.isdigit() and len(ref) < 20:
        user = await user_by_id(host.store.reader, int(ref))
    if user is None:
        raise NotFound(f"there is no user {ref!r}; `kohakuriver user list` shows them", field="user", value=ref)
    return user


def learn(host: Host, user: User) -> None:
    """Tells those who need names and limits with every task."""
    host.owners.learn(user.id, person_of(user))


async def active_user(host: Host, user: int) -> User | None:
    """The user if they may sign in."""
    found = await user_by_id(host.store.reader, user)
    return found if found is not None and found.state == ACTIVE else None


def user_view(user: User, held: Held | None = None) -> people.UserView:
    """An account as the API shows it; `held` is what its tasks hold now."""
    return people.UserView(
        id=str(user.id),
        name=user.name,
        role=user.role,
        state=user.state,
        display=user.display or None,
        most_open=user.most_open,
        most_running=user.most_running,
        most_cores=user.most_cores,
        most_memory=user.most_memory,
        most_devices=user.most_devices,
        running=held.tasks if held is not None else None,
        cores=held.cpu_milli / MILLI if held is not None else None,
        memory=held.memory if held is not None else None,
        devices=held.devices if held is not None else None,
        created=user.created,
    )


async def list_users(host: Host, actor: Actor, *, cursor: str | None, limit: int) -> api.Page[people.UserView]:
    """Accounts by name; `cursor` is the last name of the part before."""
    authorize(actor, Action.USER_LIST)
    users = await users_after(host.store.reader, cursor or "", limit + 1)
    more = users[limit - 1].name if len(users) > limit else None
    return api.Page(items=[_shown_now(host, user) for user in users[:limit]], next=more)


async def show_user(host: Host, actor: Actor, ref: str) -> people.UserView:
    """One account; everybody may look at their own."""
    if ref.lower() == actor.name or ref == str(actor.id):
        authorize(actor, Action.SELF)
    else:
        authorize(actor, Action.USER_LIST)
    return _shown_now(host, await find_user(host, ref))


def _shown_now(host: Host, user: User) -> people.UserView:
    return user_view(user, host.board.held_by(user.id))


async def add_user(host: Host, actor: Actor, request: people.NewUser, *, key: str | None = None) -> people.SetupLink:
    """A new account, and the one-time link with which its person sets a password. Raises Conflict for a taken name or
    a used key (once.py).
    """
    role = parse_role(request.role)
    authorize(actor, Action.USER_INVITE, Granting(role=role))
    name = check_user_name(request.name.lower())
    user = User(
        id=host.ids.next(),
        name=name,
        display=request.display or "",
        role=role.word,
        state=INVITED,
        most_open=request.most_open,
        created=host.clock.now(),
    )
    link, statements = _link(host, actor, user.id)
    detail = {"name": name, "role": role.word, "most_open": request.most_open}
    event = _event(host, actor, "user_added", user.id, detail)

    def then() -> None:
        learn(host, user)
        host.changes.publish("user", user.id, INVITED)

    try:
        await write_once(host, actor, key, [new_user(user), *statements, *event], then)
    except ConstraintFailed as error:
        if error.kind != "unique":
            raise
        raise Conflict(f"the name {name} is taken; names are never given twice", field="name", value=name) from None
    return _shown(host, user, link)


async def renew_link(host: Host, actor: Actor, ref: str, *, key: str | None = None) -> people.SetupLink:
    """A new set-up link, which ends older ones; with it the person chooses a password anew."""
    user = await find_user(host, ref)
    authorize(actor, Action.USER_CHANGE)
    if user.state == DISABLED:
        raise Conflict(f"the account {user.name} is disabled; enable it first", field="user", value=user.name)
    link, statements = _link(host, actor, user.id)
    event = _event(host, actor, "user_link_made", user.id, {"name": user.name})
    await write_once(host, actor, key, [*statements, *event])
    return _shown(host, user, link)


async def change_user(host: Host, actor: Actor, ref: str, request: people.ChangeUser) -> people.UserView:
    """Changes what is given. A new role and a disabled account end all sessions; disabling ends tokens and links too.

    Raises Conflict when no active admin would be left.
    """
    authorize(actor, Action.USER_CHANGE)
    user = await find_user(host, ref)
    return await _change(host, actor, user, _changes(user, request))


async def limit_user(host: Host, actor: Actor, ref: str, request: people.LimitUser) -> people.UserView:
    """What the account may have at once. A lower limit ends nothing, and lets nothing more start."""
    authorize(actor, Action.USER_LIMIT)
    user = await find_user(host, ref)
    return await _change(host, actor, user, _limits(user, request))


async def _change(host: Host, actor: Actor, user: User, after: dict[str, Any]) -> people.UserView:
    if not after:
        return _shown_now(host, user)
    now = host.clock.now()
    statements: list[Statement] = []
    if user.role == Role.ADMIN.word and user.state == ACTIVE and ("role" in after or after.get("state") == DISABLED):
        statements.append(await _another_admin(host, user.id))
    # all that memory keeps of it, so that what is learnt below is what is stored
    before = {name: getattr(user, name) for name in ("role", "state", *LIMITS)}
    statements.append(update(UserRow, where={"id": user.id, **before}, set=after, expect=1))
    if "role" in after or "state" in after:
        statements.append(end_sessions(user.id, now))
    if after.get("state") == DISABLED:
        statements += [end_tokens(user.id, now), end_once(SETUP, str(user.id), now)]
    detail = {"name": user.name, "before": {key: getattr(user, key) for key in after}, "after": after}
    statements += _event(host, actor, "user_changed", user.id, detail)
    try:
        await host.commits.write(statements, lambda: _changed(host, user, replace(user, **after)))
    except MovedOn as error:
        raise MovedOn(f"user {user.name}, or the last other admin, changed meanwhile; look again and retry") from error
    return _shown_now(host, await find_user(host, str(user.id)))


async def ensure_admin(host: Host, name: str) -> User:
    """The account of this name, made as an admin if it is not there. An existing one stays as it is."""
    user = await user_named(host.store.reader, name)
    if user is not None:
        return user
    now = host.clock.now()
    made = User(id=host.ids.next(), name=name, role=Role.ADMIN.word, state=ACTIVE, created=now)
    detail = {"name": name, "role": made.role}
    by = cause.Cause(actor="the first start")
    event = records.event(host.ids.next(), now, "user_added", by, user=made.id, detail=detail)
    await host.commits.write([new_user(made), *records.events([event])], lambda: learn(host, made))
    return made


def _changes(user: User, request: people.ChangeUser) -> dict[str, Any]:
    after: dict[str, Any] = {}
    if request.role is not None and request.role != user.role:
        after["role"] = request.role
    if request.display is not None and request.display != user.display:
        after["display"] = request.display
    if request.most_open is not None and request.most_open != user.most_open:
        after["most_open"] = request.most_open
    if request.disabled is True and user.state != DISABLED:
        after["state"] = DISABLED
    if request.disabled is False and user.state == DISABLED:
        after["state"] = ACTIVE
    return after


def _limits(user: User, request: people.LimitUser) -> dict[str, Any]:
    after: dict[str, Any] = {}
    for limit in LIMITS:
        asked = getattr(request, limit)
        wanted = None if asked == DEFAULT else asked
        if asked is not None and wanted != getattr(user, limit):
            after[limit] = wanted
    return after


def _changed(host: Host, before: User, after: User) -> None:
    learn(host, after)
    if (before.role, before.state) != (after.role, after.state):
        visitors(host).callers.forget(after.id)
    host.changes.publish("user", after.id, after.state)
    host.scheduler.wake()


async def _another_admin(host: Host, user: int) -> Statement:
    """A statement that changes nothing and fails the commit unless another active admin is still there."""
    other = await another_admin(host.store.reader, user)
    if other is None:
        raise Conflict("this is the last admin; make another user an admin first")
    there = {"role": Role.ADMIN.word, "state": ACTIVE}
    return update(UserRow, where={"id": other, **there}, set=there, expect=1)


def _link(host: Host, actor: Actor, user: int) -> tuple[credentials.Credential, list[Statement]]:
    link, now = credentials.make(credentials.INVITATION), host.clock.now()
    once = Once(
        id=link.id,
        kind=SETUP,
        subject=str(user),
        hash=link.digest,
        created_by=actor.id,
        created=now,
        expires=now + timedelta(hours=SETUP_HOURS),
    )
    return link, [end_once(SETUP, str(user), now), new_once(once)]


def _shown(host: Host, user: User, link: credentials.Credential) -> people.SetupLink:
    return people.SetupLink(
        user=user_view(user),
        secret=str(link),
        url=f"{host.settings.public_url}/setup#{link}",
        expires=host.clock.now() + timedelta(hours=SETUP_HOURS),
    )


def _event(host: Host, actor: Actor, what: str, user: int, detail: Mapping[str, object]) -> list[Statement]:
    row = records.event(host.ids.next(), host.clock.now(), what, cause.by(actor), user=user, detail=detail)
    return records.events([row])
