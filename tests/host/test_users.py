"""Accounts of others: invited, changed, disabled, never deleted; and what is told of it."""

import asyncio
import json

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.errors import Conflict, Invalid, MovedOn, NotAllowed
from kohakuriver.host import sign_in, tokens, users
from kohakuriver.host.callers import ALL
from kohakuriver.host.visitors import visitors
from kohakuriver.store.models import EventRow, UserRow
from kohakuriver.testing.hosts import add_account, token_of
from kohakuriver.wire import people

from .kit import Gate
from .people_kit import HERE, PASSWORD, admin, refused, signed_up, who


async def test_a_disabled_account_loses_everything_at_once_and_its_long_answers(host):
    root, anna = await admin(host), await add_account(host, "anna")
    token = await token_of(host, anna)
    caller = await who(host, token=token)
    going = asyncio.Event()

    async def answer():
        with visitors(host).callers.answering(caller, host.clock.now()):
            going.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(answer())
    await going.wait()
    await users.change_user(host, root, "anna", people.ChangeUser(disabled=True))
    with pytest.raises(asyncio.CancelledError):
        await task
    await refused(host, token=token)
    await users.change_user(host, root, "anna", people.ChangeUser(disabled=False))
    await refused(host, token=token)


async def test_a_new_role_counts_at_the_next_request(host):
    root, anna = await admin(host), await add_account(host, "anna")
    token = await token_of(host, anna, word=ALL)
    assert (await who(host, token=token)).actor.role is Role.USER
    await users.change_user(host, root, "anna", people.ChangeUser(role="operator"))
    assert (await who(host, token=token)).actor.role is Role.OPERATOR


async def test_the_last_admin_stays(host):
    root = await admin(host)
    for change in (people.ChangeUser(disabled=True), people.ChangeUser(role="user")):
        with pytest.raises(Conflict):
            await users.change_user(host, root, "root", change)
    other = await admin(host, "other")
    results = await asyncio.gather(
        users.change_user(host, root, "other", people.ChangeUser(disabled=True)),
        users.change_user(host, other, "root", people.ChangeUser(disabled=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in results) == 1
    assert await host.store.reader.of(UserRow).filter(role="admin", state="active").count() == 1


async def test_operators_invite_users_and_nobody_higher(host):
    operator = await add_account(host, "olga", Role.OPERATOR)
    await users.add_user(host, operator, people.NewUser(name="anna"))
    with pytest.raises(NotAllowed):
        await users.add_user(host, operator, people.NewUser(name="eve", role="admin"))
    with pytest.raises(NotAllowed):
        await users.change_user(host, operator, "anna", people.ChangeUser(role="admin"))


async def test_a_name_is_never_given_twice(host):
    root = await admin(host)
    await users.add_user(host, root, people.NewUser(name="anna"))
    with pytest.raises(Conflict):
        await users.add_user(host, root, people.NewUser(name="Anna"))
    for name in ("", "1", "a b", "-x", "a/b", "ä", "x" * 33):
        with pytest.raises(Invalid):
            await users.add_user(host, root, people.NewUser(name=name))


async def test_accounts_are_listed_by_name_in_parts(host):
    root = await admin(host)
    for name in ("carl", "anna", "bert"):
        await add_account(host, name)
    names, cursor = [], None
    while True:
        page = await users.list_users(host, root, cursor=cursor, limit=3)
        names += [view.name for view in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert names == ["anna", "bert", "carl", "root"]
    with pytest.raises(NotAllowed):
        await users.list_users(host, await add_account(host, "dora"), cursor=None, limit=3)


async def test_limits_of_a_user_reach_those_who_count_tasks(host):
    root = await admin(host)
    anna = await add_account(host, "anna")
    await users.change_user(host, root, "anna", people.ChangeUser(most_open=7, display="Anna A."))
    assert host.owners.most_open(anna.id, 3) == 7
    await users.change_user(host, root, "anna", people.ChangeUser(role="viewer"))
    assert host.owners.most_open(anna.id, 3) == 7


async def test_every_change_of_an_account_is_in_the_history_without_secrets(host):
    root = await admin(host)
    link, entered = await signed_up(host, root, "anna")
    await users.change_user(host, root, "anna", people.ChangeUser(role="viewer"))
    made = await tokens.create_token(host, root, people.NewToken(name="x"))
    rows = await host.store.reader.of(EventRow).order_by("id")
    whats = [row.what for row in rows]
    assert {"user_added", "user_set_up", "signed_in", "user_changed", "token_made"} <= set(whats)
    text = json.dumps([dict(row) for row in rows])
    assert not any(secret in text for secret in (link.secret, made.token, PASSWORD, entered.cookie))
    changed = json.loads(rows[whats.index("user_changed")].detail)
    assert (changed["before"], changed["after"]) == ({"role": "user"}, {"role": "viewer"})


async def test_limits_that_are_set_at_once_are_in_memory_as_they_are_stored(host, monkeypatch):
    root, anna = await admin(host), await add_account(host, "anna")
    with monkeypatch.context() as patch:
        gate = Gate(host, patch)
        changes = [people.LimitUser(most_cores=4), people.LimitUser(most_devices=1)]
        asking = [asyncio.create_task(users.limit_user(host, root, "anna", change)) for change in changes]
        await gate.reached()
        await gate.reached()
        gate.opened.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    # who saw neither the other's nor its own limit stored is told to look again
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] in ([], [MovedOn])
    view = await users.show_user(host, root, "anna")
    assert (host.owners[anna.id].cores, host.owners[anna.id].devices) == (view.most_cores, view.most_devices)
    assert view.most_cores == 4 or view.most_devices == 1


async def test_a_limit_that_is_set_while_its_account_is_set_up_holds(host, monkeypatch):
    root = await admin(host)
    link = await users.add_user(host, root, people.NewUser(name="anna"))
    anna = int(link.user.id)
    assert host.owners.name(anna) == "anna"
    _, keeper = visitors(host).keeper()
    keep = keeper.keep

    async def slow(password):
        await users.limit_user(host, root, "anna", people.LimitUser(most_cores=4))
        return await keep(password)

    monkeypatch.setattr(keeper, "keep", slow)
    await sign_in.setup(host, people.Setup(secret=link.secret, password=PASSWORD), HERE)
    assert host.owners[anna].cores == 4
