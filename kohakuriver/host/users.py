"""Accounts of people: found, listed, invited, changed, disabled. Never deleted, and ids are never given twice."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kohakuriver.domain.access import Action, Actor, Granting, Role, authorize, parse_role
from kohakuriver.domain.ids import LONGEST_USER_NAME, check_user_name
from kohakuriver.errors import Conflict, MovedOn, NotFound
from kohakuriver.host import cause, credentials, records
from kohakuriver.host.host import Host
from kohakuriver.host.once import write_once
from kohakuriver.host.owners import Person
from kohakuriver.host.tokens import end_sessions, end_tokens
from kohakuriver.host.visitors import visitors
from kohakuriver.store.columns import micros, moment
from kohakuriver.store.models import OnceRow, UserRow
from kohakuriver.store.write import ConstraintFailed, Statement, insert, update
from kohakuriver.wire import api, people

ACTIVE, INVITED, DISABLED = "active", "invited", "disabled"
SETUP_HOURS = 72


async def find_user(host: Host, ref: str) -> UserRow:
    """By name or id. Raises NotFound."""
    row = None
    # the ORM fails for a text that its column could not hold
    if len(ref) <= LONGEST_USER_NAME:
        row = await host.store.reader.of(UserRow).get_or_none(name=ref.lower())
    if row is None and ref.isascii() and ref.isdigit() and len(ref) < 20 and int(ref) < 2**63:
        row = await host.store.reader.of(UserRow).get_or_none(id=int(ref))
    if row is None:
        raise NotFound(f"there is no user {ref!r}; `kohakuriver user list` shows them", field="user", value=ref)
    return row


def learn(host: Host, row: UserRow) -> None:
    """Tells those who need names and limits with every task."""
    host.owners.learn(row.id, Person(name=row.name, most_open=row.most_open))


async def active_user(host: Host, user: int) -> UserRow | None:
    """The user if they may sign in."""
    row = await host.store.reader.of(UserRow).get_or_none(id=user)
    return row if row is not None and row.state == ACTIVE else None


def user_view(row: UserRow) -> people.UserView:
    """An account as the API shows it."""
    return people.UserView(
        id=str(row.id),
        name=row.name,
        role=row.role,
        state=row.state,
        display=row.display or None,
        most_open=row.most_open,
        created=moment(row.created),
    )


async def list_users(host: Host, actor: Actor, *, cursor: str | None, limit: int) -> api.Page[people.UserView]:
    """Accounts by name; `cursor` is the last name of the part before."""
    authorize(actor, Action.USER_LIST)
    query = host.store.reader.of(UserRow).order_by("name").limit(limit + 1)
    rows = await (query.filter(name__gt=cursor[:LONGEST_USER_NAME]) if cursor else query)
    more = rows[limit - 1].name if len(rows) > limit else None
    return api.Page(items=[user_view(row) for row in rows[:limit]], next=more)


async def show_user(host: Host, actor: Actor, ref: str) -> people.UserView:
    """One account; everybody may look at their own."""
    if ref.lower() == actor.name or ref == str(actor.id):
        authorize(actor, Action.SELF)
    else:
        authorize(actor, Action.USER_LIST)
    return user_view(await find_user(host, ref))


async def add_user(host: Host, actor: Actor, request: people.NewUser, *, key: str | None = None) -> people.SetupLink:
    """A new account, and the one-time link with which its person sets a password. Raises Conflict for a taken name or
    a used key (once.py).
    """
    role = parse_role(request.role)
    authorize(actor, Action.USER_INVITE, Granting(role=role))
    name, id = check_user_name(request.name.lower()), host.ids.next()
    values = {
        "id": id,
        "name": name,
        "display": request.display or "",
        "role": role.word,
        "state": INVITED,
        "most_open": request.most_open,
        "created": micros(host.clock.now()),
    }
    link, statements = _link(host, actor, id)
    event = _event(host, actor, "user_added", id, {"name": name, "role": role.word, "most_open": request.most_open})
    try:
        await write_once(host, actor, key, [insert(UserRow, **values), *statements, *event])
    except ConstraintFailed as error:
        if error.kind != "unique":
            raise
        raise Conflict(f"the name {name} is taken; names are never given twice", field="name", value=name) from None
    host.changes.publish("user", id, INVITED)
    return _shown(host, UserRow(**values), link)


async def renew_link(host: Host, actor: Actor, ref: str, *, key: str | None = None) -> people.SetupLink:
    """A new set-up link, which ends older ones; with it the person chooses a password anew."""
    row = await find_user(host, ref)
    authorize(actor, Action.USER_CHANGE)
    if row.state == DISABLED:
        raise Conflict(f"the account {row.name} is disabled; enable it first", field="user", value=row.name)
    link, statements = _link(host, actor, row.id)
    event = _event(host, actor, "user_link_made", row.id, {"name": row.name})
    await write_once(host, actor, key, [*statements, *event])
    return _shown(host, row, link)


async def change_user(host: Host, actor: Actor, ref: str, request: people.ChangeUser) -> people.UserView:
    """Changes what is given. A new role and a disabled account end all sessions; disabling ends tokens and links too.

    Raises Conflict when no active admin would be left.
    """
    authorize(actor, Action.USER_CHANGE)
    row = await find_user(host, ref)
    after = _changes(row, request)
    if not after:
        return user_view(row)
    now = micros(host.clock.now())
    statements: list[Statement] = []
    if row.role == Role.ADMIN.word and row.state == ACTIVE and ("role" in after or after.get("state") == DISABLED):
        statements.append(await _another_admin(host, row.id))
    before = {"role": row.role, "state": row.state}
    statements.append(update(UserRow, where={"id": row.id, **before}, set=after, expect=1))
    if "role" in after or "state" in after:
        statements.append(end_sessions(row.id, now))
    if after.get("state") == DISABLED:
        statements += [end_tokens(row.id, now), _end_links(row.id, now)]
    detail = {"name": row.name, "before": {key: getattr(row, key) for key in after}, "after": after}
    statements += _event(host, actor, "user_changed", row.id, detail)
    try:
        await host.commits.write(statements, lambda: _changed(host, row, after))
    except MovedOn as error:
        raise MovedOn(f"user {row.name}, or the last other admin, changed meanwhile; look again and retry") from error
    return user_view(await find_user(host, str(row.id)))


async def ensure_admin(host: Host, name: str) -> UserRow:
    """The account of this name, made as an admin if it is not there. An existing one stays as it is."""
    row = await host.store.reader.of(UserRow).get_or_none(name=name)
    if row is not None:
        return row
    now = host.clock.now()
    values = {"id": host.ids.next(), "name": name, "role": Role.ADMIN.word, "state": ACTIVE, "created": micros(now)}
    made = UserRow(**values)
    detail = {"name": name, "role": made.role}
    by = cause.Cause(actor="the first start")
    event = records.event(host.ids.next(), now, "user_added", by, user=made.id, detail=detail)
    await host.commits.write([insert(UserRow, **values), *records.events([event])], lambda: learn(host, made))
    return made


def _changes(row: UserRow, request: people.ChangeUser) -> dict[str, Any]:
    after: dict[str, Any] = {}
    if request.role is not None and request.role != row.role:
        after["role"] = request.role
    if request.display is not None and request.display != row.display:
        after["display"] = request.display
    if request.most_open is not None and request.most_open != row.most_open:
        after["most_open"] = request.most_open
    if request.disabled is True and row.state != DISABLED:
        after["state"] = DISABLED
    if request.disabled is False and row.state == DISABLED:
        after["state"] = ACTIVE
    return after


def _changed(host: Host, row: UserRow, after: dict[str, Any]) -> None:
    host.owners.learn(row.id, Person(name=row.name, most_open=after.get("most_open", row.most_open)))
    if "role" in after or "state" in after:
        visitors(host).callers.forget(row.id)
    host.changes.publish("user", row.id, after.get("state", row.state))


async def _another_admin(host: Host, user: int) -> Statement:
    """A statement that changes nothing and fails the commit unless another active admin is still there."""
    admins = host.store.reader.of(UserRow).filter(role=Role.ADMIN.word, state=ACTIVE, id__not=user)
    other = await admins.first()
    if other is None:
        raise Conflict("this is the last admin; make another user an admin first")
    there = {"role": Role.ADMIN.word, "state": ACTIVE}
    return update(UserRow, where={"id": other.id, **there}, set=there, expect=1)


def _link(host: Host, actor: Actor, user: int) -> tuple[credentials.Credential, list[Statement]]:
    link, now = credentials.make(credentials.INVITATION), host.clock.now()
    row = insert(
        OnceRow,
        id=link.id,
        kind="setup",
        subject=str(user),
        hash=link.digest,
        created_by_id=actor.id,
        created=micros(now),
        expires=micros(now + timedelta(hours=SETUP_HOURS)),
    )
    return link, [_end_links(user, micros(now)), row]


def _end_links(user: int, now: int) -> Statement:
    return update(
        OnceRow, where={"kind": "setup", "subject": str(user), "used__isnull": True}, set={"used": now}, expect=None
    )


def _shown(host: Host, row: UserRow, link: credentials.Credential) -> people.SetupLink:
    return people.SetupLink(
        user=user_view(row),
        secret=str(link),
        url=f"{host.settings.public_url}/setup#{link}",
        expires=host.clock.now() + timedelta(hours=SETUP_HOURS),
    )


def _event(host: Host, actor: Actor, what: str, user: int, detail: Mapping[str, object]) -> list[Statement]:
    row = records.event(host.ids.next(), host.clock.now(), what, cause.by(actor), user=user, detail=detail)
    return records.events([row])
