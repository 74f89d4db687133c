"""The table of who may do what, written out, and every pair of actor and action tried on it."""

import pytest

from kohakuriver.domain import access
from kohakuriver.domain.access import Action, Actor, Granting, How, Owned, Role, Scope, Who, authorize, visible
from kohakuriver.errors import Invalid, NotAllowed, NotFound, NotSignedIn

ME, OTHER = 1, 2


def actor(role=Role.USER, **changes):
    return Actor(**{"id": ME, "name": "ana", "role": role, "how": How.SESSION, "fresh": True, **changes})


NODE = actor(id=9, name="node1", how=How.NODE)
OWN, FOREIGN = Owned(owner=ME), Owned(owner=OTHER)
ASSIGNED = Owned(owner=OTHER, assignees=frozenset({ME}))
#: + allowed, - 401, 3 403, 4 404; for anonymous, viewer, user, operator, admin, node
PLAIN = {
    Action.HEALTH: "++++++",
    Action.SIGN_IN: "++++++",
    Action.ENROL: "++++++",
    Action.LINK: "-3333+",
    Action.ABOUT: "-++++3",
    Action.METRICS: "-++++3",
    Action.EVENTS: "-++++3",
    Action.SELF: "-++++3",
    Action.PASSWORD_CHANGE: "-++++3",
    Action.TOKEN_MINT: "-++++3",
    Action.NODE_LIST: "-++++3",
    Action.NODE_DETAIL: "-33++3",
    Action.NODE_DRAIN: "-33++3",
    Action.NODE_JOIN_TOKEN: "-333+3",
    Action.NODE_REMOVE: "-333+3",
    Action.TASK_LIST: "-++++3",
    Action.TASK_SECRETS: "333333",
    Action.TASK_SUBMIT: "-3+++3",
    Action.TASK_SUBMIT_PRIVILEGED: "-33++3",
    Action.VPS_CREATE: "-3+++3",
    Action.ENVIRONMENT_USE: "-3+++3",
    Action.ENVIRONMENT_CHANGE: "-33++3",
    Action.OVERLAY_CHANGE: "-33++3",
    Action.USER_LIST: "-333+3",
    Action.USER_CHANGE: "-333+3",
    Action.USER_LIMIT: "-33++3",
    Action.AUDIT_READ: "-33++3",
    Action.AUDIT_EXPORT: "-333+3",
    Action.SETTINGS: "-333+3",
}
#: the same over an object: (one's own, one assigned, somebody else's)
OBJECTS = {
    Action.TOKEN_REVOKE: ("-++++3", "-444+3", "-444+3"),
    Action.TASK_DETAIL: ("-++++3", "-++++3", "-44++3"),
    Action.TASK_LOGS: ("-++++3", "-++++3", "-44++3"),
    Action.TASK_CONTROL: ("-3+++3", "-3+++3", "-34++3"),
    Action.TASK_ATTACH: ("-3+++3", "-3+++3", "-34++3"),
    Action.TASK_APPROVE: ("-333+3", "-33++3", "-33++3"),
    Action.TASK_LOSE: ("-33++3", "-33++3", "-33++3"),
}
ACTORS = (None, *(actor(role) for role in Role), NODE)


def answer(*args, **kwargs):
    try:
        authorize(*args, **kwargs)
    except NotSignedIn:
        return "-"
    except NotAllowed:
        return "3"
    except NotFound:
        return "4"
    return "+"


def test_the_table_has_every_action_and_prints_them_all():
    assert set(access.RULES) == set(Action) == set(PLAIN) | set(OBJECTS) | {Action.USER_INVITE}
    printed = access.table().splitlines()
    assert [line.split()[0] for line in printed[1:]] == [action.value for action in access.RULES]
    assert "task_attach             people   user      attach   operator  break_glass audited" in printed


@pytest.mark.parametrize("action", PLAIN)
def test_actions_without_an_owned_object(action):
    assert "".join(answer(who, action) for who in ACTORS) == PLAIN[action]


@pytest.mark.parametrize("action", OBJECTS)
@pytest.mark.parametrize(("case", "thing"), [(0, OWN), (1, ASSIGNED), (2, FOREIGN)])
def test_actions_on_an_owned_object(action, case, thing):
    assert "".join(answer(who, action, thing, reason="help asked for") for who in ACTORS) == OBJECTS[action][case]


@pytest.mark.parametrize(
    ("role", "given", "expected"),
    [(Role.VIEWER, Role.VIEWER, "3"), (Role.USER, Role.VIEWER, "3")]
    + [(Role.OPERATOR, given, "+" if given <= Role.USER else "3") for given in Role]
    + [(Role.ADMIN, given, "+") for given in Role],
)
def test_an_operator_invites_viewers_and_users_and_an_admin_anybody(role, given, expected):
    assert answer(actor(role), Action.USER_INVITE, Granting(role=given)) == expected


@pytest.mark.parametrize("action", [action for action in Action if access.RULES[action].who is Who.PEOPLE])
def test_a_token_does_what_its_scopes_name_and_no_more(action):
    rule = access.RULES[action]
    thing = Granting(role=Role.USER) if action is Action.USER_INVITE else FOREIGN
    for scope in Scope:
        token = actor(Role.ADMIN, how=How.TOKEN, scopes=frozenset({scope}), fresh=True)
        allowed = scope is rule.scope and not rule.fresh
        assert answer(token, action, thing, reason="help") == ("+" if allowed else "3")


@pytest.mark.parametrize("action", [action for action in Action if access.RULES[action].fresh])
def test_minting_inviting_and_passwords_need_a_recent_sign_in(action):
    thing = Granting(role=Role.USER)
    assert answer(actor(Role.ADMIN, fresh=False), action, thing) == "3"
    assert answer(actor(Role.ADMIN), action, thing) == "+"
    assert answer(actor(Role.ADMIN, how=How.TOKEN), action, thing) == "3"


def test_breaking_the_glass_needs_a_reason_and_is_told_to_the_owner():
    operator = actor(Role.OPERATOR)
    with pytest.raises(NotAllowed, match="say why"):
        authorize(operator, Action.TASK_ATTACH, FOREIGN, reason="  ")
    ruling = authorize(operator, Action.TASK_ATTACH, FOREIGN, reason="a ticket")
    assert (ruling.foreign, ruling.audited, ruling.notify) == (True, True, True)


def test_reading_a_foreign_log_is_audited_and_ones_own_is_not():
    assert authorize(actor(Role.OPERATOR), Action.TASK_LOGS, FOREIGN).audited
    assert not authorize(actor(Role.OPERATOR), Action.TASK_LOGS, OWN).audited
    assert authorize(actor(), Action.TASK_CONTROL, OWN).audited


def test_a_foreign_object_answers_as_one_that_does_not_exist():
    with pytest.raises(NotFound) as caught:
        authorize(actor(), Action.TASK_LOGS, FOREIGN)
    assert caught.value.message == NotFound().message


def test_an_action_on_an_object_without_the_object_is_a_mistake_and_no_permission():
    with pytest.raises(TypeError):
        authorize(actor(Role.ADMIN), Action.TASK_CONTROL)
    with pytest.raises(TypeError):
        authorize(actor(Role.ADMIN), Action.USER_INVITE, OWN)


def test_a_node_that_bears_a_users_number_is_not_that_user():
    with pytest.raises(NotAllowed):
        authorize(actor(id=ME, how=How.NODE), Action.TASK_DETAIL, OWN)


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (None, False),
        (actor(Role.VIEWER, id=3), False),
        (actor(Role.USER, id=3), False),
        (actor(Role.USER, id=ME), True),
        (actor(Role.USER, id=OTHER), True),
        (actor(Role.OPERATOR, id=3), True),
        (actor(Role.ADMIN, id=3), True),
        (actor(Role.ADMIN, id=3, how=How.TOKEN, scopes=frozenset({Scope.TASKS})), False),
        (actor(Role.ADMIN, id=ME, how=How.NODE), False),
    ],
)
def test_commands_and_logs_are_visible_to_owner_assignees_and_operators(who, expected):
    assert visible(who, ME, frozenset({OTHER})) is expected


def test_roles_are_read_by_name():
    assert [access.parse_role(role.word) for role in Role] == list(Role)
    for text in ("", "Admin", "root", "4"):
        with pytest.raises(Invalid, match="not a role"):
            access.parse_role(text)
