"""Who may do what: one table, one function. REST, pages, sockets and SSH all ask `authorize`; there is no other rule.

A foreign object answers as one that does not exist; too low a role for the action itself answers so.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from kohakuriver.errors import Invalid, KohakuRiverError, NotAllowed, NotFound, NotSignedIn


class Role(IntEnum):
    """Roles in rising order; each may do all that the lower ones may."""

    VIEWER = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        return self.name.lower()


def parse_role(text: str, *, field: str = "role") -> Role:
    """The role of that name. Raises Invalid."""
    for role in Role:
        if role.word == text:
            return role
    raise Invalid(f"{field} is not a role", field=field, value=text, limit=", ".join(role.word for role in Role))


class How(StrEnum):
    """How an actor proved who they are."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    LOCAL = "local"
    """the 0600 file of the lab, or a loopback host without sign-in"""
    NODE = "node"
    """a runner with its node's credential"""


class Scope(StrEnum):
    """What an API token may be limited to. None implies another."""

    READ = "read"
    TASKS = "tasks"
    ATTACH = "attach"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Whoever asks, as `host.accounts.identify` found. A node has its own `id` and `name`, and its role is unused."""

    id: int
    name: str
    role: Role
    how: How
    #: of a token; None: not limited
    scopes: frozenset[Scope] | None = None
    #: proved who they are, by password or by the 0600 file, less than ten minutes ago
    fresh: bool = False
    #: what the history says of where they come from: the id of the credential, nothing that opens anything
    via: str = ""
    address: str = ""


class Action(StrEnum):
    """Everything that can be asked for."""

    HEALTH = "health"
    SIGN_IN = "sign_in"
    ENROL = "enrol"
    LINK = "link"
    ABOUT = "about"
    METRICS = "metrics"
    EVENTS = "events"
    SELF = "self"
    PASSWORD_CHANGE = "password_change"  # noqa: S105 - as above
    TOKEN_MINT = "token_mint"  # noqa: S105
    TOKEN_REVOKE = "token_revoke"  # noqa: S105
    NODE_LIST = "node_list"
    NODE_DETAIL = "node_detail"
    NODE_DRAIN = "node_drain"
    NODE_JOIN_TOKEN = "node_join_token"  # noqa: S105
    NODE_REMOVE = "node_remove"
    TASK_LIST = "task_list"
    TASK_DETAIL = "task_detail"
    TASK_SECRETS = "task_secrets"
    TASK_LOGS = "task_logs"
    TASK_SUBMIT = "task_submit"
    TASK_SUBMIT_PRIVILEGED = "task_submit_privileged"
    VPS_CREATE = "vps_create"
    TASK_CONTROL = "task_control"
    TASK_ATTACH = "task_attach"
    TASK_APPROVE = "task_approve"
    TASK_LOSE = "task_lose"
    ENVIRONMENT_USE = "environment_use"
    ENVIRONMENT_CHANGE = "environment_change"
    OVERLAY_CHANGE = "overlay_change"
    USER_LIST = "user_list"
    USER_INVITE = "user_invite"
    USER_CHANGE = "user_change"
    USER_LIMIT = "user_limit"
    AUDIT_READ = "audit_read"
    AUDIT_EXPORT = "audit_export"
    SETTINGS = "settings"


class Who(StrEnum):
    """Which kind of caller an action is for."""

    ANYONE = "anyone"
    PEOPLE = "people"
    NODES = "nodes"
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one action asks of its actor."""

    who: Who = Who.PEOPLE
    role: Role = Role.VIEWER
    scope: Scope = Scope.READ
    #: the role from which other people's objects may be touched; None: the action has no owned object
    foreign: Role | None = None
    #: whether assignees count as owners
    assignees: bool = True
    #: a foreign object needs a reason, is audited and its owner is told
    break_glass: bool = False
    #: below admin, not on one's own
    not_own: bool = False
    #: no token, and a proof of identity less than ten minutes old
    fresh: bool = False
    #: writes an audit row; reading one's own does not
    audited: bool = False


_O: Final = Role.OPERATOR
_A: Final = Role.ADMIN
_U: Final = Role.USER

#: reliability-security.md §1 with architecture.md §6a; an action without a row cannot be authorized
RULES: Final[dict[Action, Rule]] = {
    Action.HEALTH: Rule(who=Who.ANYONE),
    Action.SIGN_IN: Rule(who=Who.ANYONE),
    # whoever enrols holds a one-use join token, which is checked there
    Action.ENROL: Rule(who=Who.ANYONE),
    Action.LINK: Rule(who=Who.NODES),
    Action.ABOUT: Rule(),
    Action.METRICS: Rule(),
    # everybody sees that something changed; what, only as `visible` says
    Action.EVENTS: Rule(),
    Action.SELF: Rule(),
    Action.PASSWORD_CHANGE: Rule(scope=Scope.ADMIN, fresh=True, audited=True),
    Action.TOKEN_MINT: Rule(scope=Scope.ADMIN, fresh=True, audited=True),
    Action.TOKEN_REVOKE: Rule(scope=Scope.ADMIN, foreign=_A, assignees=False, audited=True),
    Action.NODE_LIST: Rule(),
    Action.NODE_DETAIL: Rule(role=_O),
    Action.NODE_DRAIN: Rule(role=_O, scope=Scope.OPERATE, audited=True),
    Action.NODE_JOIN_TOKEN: Rule(role=_A, scope=Scope.ADMIN, audited=True),
    Action.NODE_REMOVE: Rule(role=_A, scope=Scope.ADMIN, audited=True),
    Action.TASK_LIST: Rule(),
    Action.TASK_DETAIL: Rule(foreign=_O),
    Action.TASK_SECRETS: Rule(who=Who.NOBODY),
    Action.TASK_LOGS: Rule(foreign=_O, audited=True),
    Action.TASK_SUBMIT: Rule(role=_U, scope=Scope.TASKS),
    Action.TASK_SUBMIT_PRIVILEGED: Rule(role=_O, scope=Scope.OPERATE, audited=True),
    Action.VPS_CREATE: Rule(role=_U, scope=Scope.TASKS),
    Action.TASK_CONTROL: Rule(role=_U, scope=Scope.TASKS, foreign=_O, audited=True),
    Action.TASK_ATTACH: Rule(role=_U, scope=Scope.ATTACH, foreign=_O, break_glass=True, audited=True),
    Action.TASK_APPROVE: Rule(role=_O, scope=Scope.OPERATE, foreign=_O, not_own=True, audited=True),
    Action.TASK_LOSE: Rule(role=_O, scope=Scope.OPERATE, foreign=_O, audited=True),
    Action.ENVIRONMENT_USE: Rule(role=_U),
    Action.ENVIRONMENT_CHANGE: Rule(role=_O, scope=Scope.OPERATE, audited=True),
    Action.OVERLAY_CHANGE: Rule(role=_O, scope=Scope.OPERATE, audited=True),
    Action.USER_LIST: Rule(role=_A, scope=Scope.ADMIN),
    Action.USER_INVITE: Rule(role=_O, scope=Scope.ADMIN, fresh=True, audited=True),
    Action.USER_CHANGE: Rule(role=_A, scope=Scope.ADMIN, fresh=True, audited=True),
    Action.USER_LIMIT: Rule(role=_O, scope=Scope.OPERATE, audited=True),
    Action.AUDIT_READ: Rule(role=_O, scope=Scope.OPERATE),
    Action.AUDIT_EXPORT: Rule(role=_A, scope=Scope.ADMIN, audited=True),
    Action.SETTINGS: Rule(role=_A, scope=Scope.ADMIN, audited=True),
}


@dataclass(frozen=True, kw_only=True)
class Owned:
    """An object that belongs to somebody."""

    owner: int
    assignees: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, kw_only=True)
class Granting:
    """The role that an invitation or a change of role would give."""

    role: Role


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """How an allowed action is to be carried out."""

    #: somebody else's object
    foreign: bool = False
    #: write an audit row, naming the owner when it is foreign
    audited: bool = False
    #: tell the owner
    notify: bool = False


def authorize(
    actor: Actor | None, action: Action, thing: Owned | Granting | None = None, *, reason: str = ""
) -> Ruling:
    """Whether the actor may; how it is to be carried out when so.

    `thing` is the object where the action has one. `reason` is what an operator says for breaking the glass.
    Raises NotSignedIn, NotAllowed (the role, token or proof is not enough, whatever the object) or NotFound (a foreign
    object, told exactly as one that does not exist).
    """
    rule = RULES[action]
    if rule.who is Who.ANYONE:
        return Ruling()
    if rule.who is Who.NOBODY:
        raise NotAllowed("secret values are never read back")
    if actor is None:
        raise NotSignedIn
    if (actor.how is How.NODE) != (rule.who is Who.NODES):
        raise NotAllowed(
            "this is for nodes alone" if rule.who is Who.NODES else "a node's credential does not allow this"
        )
    if rule.who is Who.NODES:
        return Ruling()
    _check_proof(actor, rule)
    if actor.role < rule.role:
        raise NotAllowed(f"this needs the role {rule.role.word}; yours is {actor.role.word}")
    if rule.foreign is not None:
        return _over_object(actor, action, rule, thing, reason)
    if action in _GRANTS:
        _check_grant(actor, thing)
    return Ruling(audited=rule.audited)


#: actions that give somebody a role
_GRANTS: Final = frozenset({Action.USER_INVITE})


def _check_proof(actor: Actor, rule: Rule) -> None:
    if actor.how is How.TOKEN and rule.fresh:
        raise NotAllowed("an API token cannot do this: sign in with your password")
    if actor.scopes is not None and rule.scope not in actor.scopes:
        raise NotAllowed(f"this token lacks the scope {rule.scope}")
    if rule.fresh and not actor.fresh:
        raise NotAllowed("sign in again first: this needs a sign-in less than ten minutes old")


def _over_object(actor: Actor, action: Action, rule: Rule, thing: Owned | Granting | None, reason: str) -> Ruling:
    if not isinstance(thing, Owned):
        raise TypeError(f"{action} is decided by the object's owner, and none was given")
    if actor.id == thing.owner or (rule.assignees and actor.id in thing.assignees):
        if rule.not_own and actor.id == thing.owner and actor.role < Role.ADMIN:
            raise NotAllowed("nobody below admin may decide on their own task: ask another operator")
        return Ruling(audited=rule.audited and rule.scope is not Scope.READ)
    if rule.foreign is None or actor.role < rule.foreign:
        raise NotFound
    if rule.break_glass and not reason.strip():
        raise NotAllowed("this is another user's: say why, for the audit log and its owner")
    return Ruling(foreign=True, audited=rule.audited, notify=rule.break_glass)


def _check_grant(actor: Actor, thing: Owned | Granting | None) -> None:
    """An operator invites viewers and users, an admin anybody."""
    if not isinstance(thing, Granting):
        raise TypeError("an invitation is decided by the role that it gives, and none was given")
    if actor.role < Role.ADMIN and thing.role > Role.USER:
        raise NotAllowed(f"only an admin may invite somebody as {thing.role.word}")


def visible(actor: Actor | None, task_owner: int, assignees: frozenset[int] = frozenset()) -> bool:
    """Whether the actor sees the task's command, environment and logs, beyond what every signed-in user sees of it."""
    try:
        authorize(actor, Action.TASK_DETAIL, Owned(owner=task_owner, assignees=assignees))
    except KohakuRiverError:
        return False
    return True


def table() -> str:
    """Every action and its rule, for documents and for the test that keeps them true."""
    lines = [f"{'action':24}{'who':9}{'role':10}{'scope':9}{'foreign':10}notes"]
    for action, rule in RULES.items():
        people = rule.who is Who.PEOPLE
        notes = [name for name in ("break_glass", "not_own", "fresh", "audited") if getattr(rule, name)]
        role, scope = (rule.role.word, rule.scope.value) if people else ("-", "-")
        foreign = rule.foreign.word if rule.foreign else "-"
        lines.append(f"{action:24}{rule.who:9}{role:10}{scope:9}{foreign:10}{' '.join(notes)}".rstrip())
    return "\n".join(lines)
