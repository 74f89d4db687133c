"""People and how providers know them: values out of rows, and the statements that more than one place needs.

Knows no rule of who may do what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kohakuriver.domain.access import Role
from kohakuriver.domain.ids import HIGHEST_ID, LONGEST_USER_NAME
from kohakuriver.store.columns import moment
from kohakuriver.store.models import IdentityRow, UserRow
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import Statement, insert

#: an account's state: it may sign in; it has a set-up link; neither any more
ACTIVE, INVITED, DISABLED = "active", "invited", "disabled"


@dataclass(frozen=True, kw_only=True)
class User:
    """An account, as recorded."""

    id: int
    name: str
    #: empty: as `name`
    display: str = ""
    #: a word of `domain.access.Role`
    role: str
    state: str
    #: open tasks at once; None: the cluster's default
    most_open: int | None = None
    #: held at once: attempts, cores, bytes of memory, cards; None: the cluster's default
    most_running: int | None = None
    most_cores: int | None = None
    most_memory: int | None = None
    most_devices: int | None = None
    created: datetime


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom a provider means by `subject`. `secret` is a password hash, where the provider keeps one here."""

    id: int
    #: id of the account
    user: int
    provider: str
    subject: str
    secret: str | None = field(repr=False)


async def user_by_id(reader: Reader, user: int) -> User | None:
    """The account of that id."""
    rows = await reader.of(UserRow).filter(id=user).values() if 0 < user <= HIGHEST_ID else []
    return _user(rows[0]) if rows else None


async def user_named(reader: Reader, name: str) -> User | None:
    """The account of exactly that name."""
    # the ORM fails for a text that the column could not hold
    rows = await reader.of(UserRow).filter(name=name).values() if len(name) <= LONGEST_USER_NAME else []
    return _user(rows[0]) if rows else None


async def users_after(reader: Reader, name: str, limit: int) -> list[User]:
    """Accounts in the order of their names, those after this one; an empty name is before all others."""
    query = reader.of(UserRow).order_by("name").limit(limit)
    rows = await (query.filter(name__gt=name[:LONGEST_USER_NAME]) if name else query).values()
    return [_user(row) for row in rows]


async def all_users(reader: Reader) -> list[User]:
    """Every account there ever was."""
    return [_user(row) for row in await reader.of(UserRow).all().values()]


async def any_user(reader: Reader) -> bool:
    """Whether anybody has an account."""
    return await reader.of(UserRow).exists()


async def another_admin(reader: Reader, user: int) -> int | None:
    """The id of an active admin who is not this user."""
    admins = reader.of(UserRow).filter(role=Role.ADMIN.word, state=ACTIVE, id__not=user)
    rows = await admins.order_by("id").limit(1).values("id")
    return rows[0]["id"] if rows else None


async def find_identity(reader: Reader, provider: str, subject: str) -> Identity | None:
    """Whom the provider means by this subject; None: nobody who has an account."""
    rows = await reader.of(IdentityRow).filter(provider=provider, subject=subject).values()
    if not rows:
        return None
    row = rows[0]
    return Identity(
        id=row["id"],
        user=row["user_id"],
        provider=row["provider"],
        subject=row["subject"],
        secret=row["secret"],
    )


def new_user(user: User) -> Statement:
    """A new account. Fails its caller's commit with ConstraintFailed when the name was ever given."""
    return insert(
        UserRow,
        id=user.id,
        name=user.name,
        display=user.display,
        role=user.role,
        state=user.state,
        most_open=user.most_open,
        most_running=user.most_running,
        most_cores=user.most_cores,
        most_memory=user.most_memory,
        most_devices=user.most_devices,
        created=user.created,
    )


def _user(row: Mapping[str, Any]) -> User:
    return User(
        id=row["id"],
        name=row["name"],
        display=row["display"],
        role=row["role"],
        state=row["state"],
        most_open=row["most_open"],
        most_running=row["most_running"],
        most_cores=row["most_cores"],
        most_memory=row["most_memory"],
        most_devices=row["most_devices"],
        created=moment(row["created"]),
    )
