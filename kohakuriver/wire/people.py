"""Bodies of the HTTP API about people: signing in, tokens, sessions, accounts. Rules as in api.py."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from kohakuriver.wire.api import Name, Request, View

Password = Annotated[str, Meta(min_length=8, max_length=256)]
UserName = Annotated[str, Meta(min_length=1, max_length=64)]
RoleName = Literal["viewer", "user", "operator", "admin"]


class UserView(View, kw_only=True, omit_defaults=True):
    """An account."""

    id: str
    name: str
    role: str
    state: str
    display: str | None = None
    most_open: int | None = None
    #: what may be held at once; absent: the cluster's default, 0: no limit. Memory in bytes
    most_running: int | None = None
    most_cores: int | None = None
    most_memory: int | None = None
    most_devices: int | None = None
    #: what is held now
    running: int | None = None
    cores: float | None = None
    memory: int | None = None
    devices: int | None = None
    created: datetime | None = None


class Login(Request, kw_only=True):
    """A name and a password; `token` asks for an API token of this name instead of a session cookie."""

    user: UserName
    password: Annotated[str, Meta(min_length=1, max_length=256)]
    token: Name | None = None


class Setup(Request, kw_only=True):
    """First use of an account: the one-time secret of its set-up link, and a password.

    With the secret of the first start, `user` names the first admin.
    """

    secret: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Password
    user: UserName | None = None
    token: Name | None = None


class SignedIn(View, kw_only=True, omit_defaults=True):
    """Who one is now; the token is there if one was asked for, and is shown once."""

    user: UserView
    token: str | None = None


class ChangePassword(Request, kw_only=True):
    """A new password; ends all other sessions."""

    old: Annotated[str, Meta(min_length=1, max_length=256)]
    new: Password


class NewToken(Request, kw_only=True):
    """A token for programs. `expires` in seconds."""

    name: Name
    expires: Annotated[int, Meta(ge=60, le=10 * 365 * 86_400)] | None = None
    scope: Literal["all", "read"] = "all"


class TokenView(View, kw_only=True, omit_defaults=True):
    """A token without its secret; `token` is there once, in the answer that makes it."""

    id: str
    name: str
    scope: str
    created: datetime
    expires: datetime | None
    used: datetime | None
    token: str | None = None


class SessionView(View, kw_only=True):
    """A signed-in browser."""

    id: str
    created: datetime
    seen: datetime
    expires: datetime
    client: str
    current: bool


class NewUser(Request, kw_only=True):
    """An account; the answer has a one-time set-up link."""

    name: UserName
    role: RoleName = "user"
    display: Annotated[str, Meta(max_length=128)] | None = None
    #: most open tasks; 0 is no limit
    most_open: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class ChangeUser(Request, kw_only=True):
    """Whatever is given changes."""

    role: RoleName | None = None
    display: Annotated[str, Meta(max_length=128)] | None = None
    disabled: bool | None = None
    most_open: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class LimitUser(Request, kw_only=True):
    """Whatever is given changes; 0 is no limit, and -1 the cluster's default again. Memory in bytes."""

    #: tasks that have not ended; the rest is what they may hold at once
    most_open: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    most_running: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    most_cores: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    most_memory: Annotated[int, Meta(ge=-1, le=2**60)] | None = None
    most_devices: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None


class SetupLink(View, kw_only=True):
    """The one-time link with which somebody sets their password, shown once."""

    user: UserView
    secret: str
    url: str
    expires: datetime
