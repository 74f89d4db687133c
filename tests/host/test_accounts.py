"""Who somebody is: tokens, sessions, the lab's file, the first admin, and the end of each."""

import asyncio
import json
import stat

import pytest

from kohakuriver.domain.access import How, Role, Scope
from kohakuriver.errors import Gone, Invalid, NotAllowed, NotFound, NotSignedIn, TooMany
from kohakuriver.host import accounts, sign_in, tokens, users
from kohakuriver.host.callers import READ
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.sign_in import From
from kohakuriver.host.visitors import visitors
from kohakuriver.store.models import SessionRow, TokenRow, UserRow
from kohakuriver.testing.hosts import add_account, opened_host, token_of
from kohakuriver.wire import people

from .people_kit import HERE, PASSWORD, admin, refused, signed_up, who


async def test_the_first_secret_makes_one_admin_and_no_more(host):
    older = await accounts.first_secret(host)
    secret = await accounts.first_secret(host)
    with pytest.raises(Gone):
        await sign_in.setup(host, people.Setup(secret=older, password=PASSWORD, user="eve"), HERE)
    request = people.Setup(secret=secret, password=PASSWORD, user="Anna", token="cli")
    first, second = await asyncio.gather(
        *(sign_in.setup(host, request, HERE) for _ in range(2)), return_exceptions=True
    )
    entered = next(one for one in (first, second) if isinstance(one, sign_in.Entered))
    assert any(isinstance(one, Gone) for one in (first, second))
    assert (entered.answer.user.name, entered.answer.user.role) == ("anna", "admin")
    assert (await who(host, token=entered.answer.token)).actor.role is Role.ADMIN
    assert await accounts.first_secret(host) is None
    assert await host.store.reader.of(UserRow).count() == 1


async def test_a_secret_of_the_first_start_needs_a_name_and_a_good_password(host):
    secret = await accounts.first_secret(host)
    for user, password in ((None, PASSWORD), ("7", PASSWORD), ("anna", "password123"), ("anna", "aaaaaaaaaa")):
        with pytest.raises(Invalid):
            await sign_in.setup(host, people.Setup(secret=secret, password=password, user=user), HERE)
    await sign_in.setup(host, people.Setup(secret=secret, password=PASSWORD, user="anna"), HERE)


async def test_sign_in_by_password_and_out_again(host):
    await signed_up(host, await admin(host), "anna")
    entered = await sign_in.login(host, people.Login(user="ANNA", password=PASSWORD), HERE)
    caller = await who(host, cookie=entered.cookie)
    assert (caller.actor.name, caller.actor.how, caller.actor.fresh, caller.cookie) == (
        "anna", How.SESSION, True, True
    )  # fmt: skip
    await sign_in.logout(host, caller)
    await refused(host, cookie=entered.cookie)


async def test_a_wrong_password_an_unknown_name_and_a_disabled_account_answer_alike(host):
    root = await admin(host)
    await signed_up(host, root, "anna")
    await signed_up(host, root, "bert")
    await users.change_user(host, root, "bert", people.ChangeUser(disabled=True))
    messages = set()
    for user, password in (("anna", "wrong wrong"), ("nobody", PASSWORD), ("bert", PASSWORD), ("\u0000", PASSWORD)):
        with pytest.raises(NotSignedIn) as error:
            await sign_in.login(host, people.Login(user=user, password=password), HERE)
        messages.add(error.value.message)
    assert len(messages) == 1


async def test_wrong_passwords_make_the_next_attempt_wait_and_time_ends_the_wait(host, clock):
    await signed_up(host, await admin(host), "anna")
    for _ in range(5):
        with pytest.raises(NotSignedIn):
            await sign_in.login(host, people.Login(user="anna", password="wrong wrong"), HERE)
    with pytest.raises(TooMany) as error:
        await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE)
    await sign_in.login(host, people.Login(user="anna", password=PASSWORD), From(address="198.51.100.1"))
    clock.advance(error.value.retry_after)
    await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE)


async def test_a_set_up_link_works_once_and_for_three_days(host, clock):
    root = await admin(host)
    link, _ = await signed_up(host, root, "anna")
    with pytest.raises(Gone):
        await sign_in.setup(host, people.Setup(secret=link.secret, password=PASSWORD), HERE)
    late = await users.add_user(host, root, people.NewUser(name="bert"))
    clock.advance(72 * 3600 + 1)
    with pytest.raises(Gone):
        await sign_in.setup(host, people.Setup(secret=late.secret, password=PASSWORD), HERE)


async def test_a_new_link_ends_the_older_one_and_its_use_ends_every_session(host):
    root = await admin(host)
    _, entered = await signed_up(host, root, "anna")
    older = await users.renew_link(host, root, "anna")
    newer = await users.renew_link(host, root, "anna")
    with pytest.raises(Gone):
        await sign_in.setup(host, people.Setup(secret=older.secret, password=PASSWORD), HERE)
    await who(host, cookie=entered.cookie)
    await sign_in.setup(host, people.Setup(secret=newer.secret, password="another good one"), HERE)
    await refused(host, cookie=entered.cookie)
    with pytest.raises(NotSignedIn):
        await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE)


async def test_a_changed_password_ends_the_other_sessions_and_keeps_this_one(host):
    await signed_up(host, await admin(host), "anna")
    this, other = [await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE) for _ in range(2)]
    caller = await who(host, cookie=this.cookie)
    await who(host, cookie=other.cookie)
    with pytest.raises(Invalid):
        await sign_in.change_password(host, caller, people.ChangePassword(old="not this one", new="a b c d e f"), HERE)
    await sign_in.change_password(host, caller, people.ChangePassword(old=PASSWORD, new="a b c d e f"), HERE)
    assert (await who(host, cookie=this.cookie)).actor.name == "anna"
    await refused(host, cookie=other.cookie)


async def test_a_session_ends_when_idle_and_at_its_last_day(host, clock):
    await signed_up(host, await admin(host), "anna")
    entered = await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE)
    clock.advance(7 * 3600)
    await who(host, cookie=entered.cookie)
    clock.advance(3600 + 1)
    await refused(host, cookie=entered.cookie)


async def test_an_idle_session_ends_also_after_a_restart_forgot_it(host, clock):
    host.settings = HostSettings(data_dir=host.settings.data_dir, public_url="https://river.example", session_idle=3600)
    await signed_up(host, await admin(host), "anna")
    entered = await sign_in.login(host, people.Login(user="anna", password=PASSWORD), HERE)
    clock.advance(3500)
    await who(host, cookie=entered.cookie)
    clock.advance(3601)
    visitors(host).callers._known.clear()
    await refused(host, cookie=entered.cookie)


async def test_a_proof_is_fresh_for_ten_minutes(host, clock):
    actor = await add_account(host, "anna")
    token = await token_of(host, actor)
    assert (await who(host, token=token)).actor.fresh
    clock.advance(601)
    caller = await who(host, token=token)
    assert not caller.actor.fresh
    with pytest.raises(NotAllowed):
        await tokens.create_token(host, caller.actor, people.NewToken(name="x"))


async def test_an_api_token_makes_no_token_and_changes_no_password(host):
    actor = await add_account(host, "anna")
    made = await tokens.create_token(host, actor, people.NewToken(name="x"))
    caller = await who(host, token=made.token)
    assert caller.actor.how is How.TOKEN
    assert caller.actor.scopes is None
    with pytest.raises(NotAllowed):
        await tokens.create_token(host, caller.actor, people.NewToken(name="y"))
    with pytest.raises(NotAllowed):
        await sign_in.change_password(host, caller, people.ChangePassword(old=PASSWORD, new="a b c d e f"), HERE)


async def test_a_token_is_hashed_shown_once_and_ends_at_its_time(host, clock):
    actor = await add_account(host, "anna")
    made = await tokens.create_token(host, actor, people.NewToken(name="x", expires=60, scope="read"))
    row = await host.store.reader.of(TokenRow).get(id=made.id)
    assert made.token is not None
    assert made.token not in str(dict(row))
    assert made.token[15:58] not in row.hash
    assert (await who(host, token=made.token)).actor.scopes == {Scope.READ}
    assert (await tokens.list_tokens(host, actor)).items[0].token is None
    clock.advance(60)
    await refused(host, token=made.token)
    assert (await tokens.list_tokens(host, actor)).items == []


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_revoked_token_ends_at_once(host, remembered):
    actor = await add_account(host, "anna")
    made = await tokens.create_token(host, actor, people.NewToken(name="x"))
    if remembered:
        await who(host, token=made.token)
    await tokens.revoke_token(host, actor, made.id)
    await tokens.revoke_token(host, actor, made.id)
    await refused(host, token=made.token)


async def test_a_look_up_that_began_before_a_revocation_is_not_remembered(host):
    actor = await add_account(host, "anna")
    made = await tokens.create_token(host, actor, people.NewToken(name="x"))
    callers = visitors(host).callers
    generation = callers.generation
    found = await accounts._from_token(host, made.token)
    await tokens.revoke_token(host, actor, made.id)
    callers.remember(made.token, found, generation)
    await refused(host, token=made.token)


async def test_a_remembered_token_costs_no_query(host):
    token = await token_of(host, await add_account(host, "anna"))
    await who(host, token=token)
    reader, host.store.reader = host.store.reader, None
    try:
        assert (await who(host, token=token)).actor.name == "anna"
    finally:
        host.store.reader = reader


async def test_the_last_use_is_stored_once_a_minute(host, clock):
    token = await token_of(host, await add_account(host, "anna"))

    async def used():
        await host.store.writer.write([])  # behind what was queued before
        return (await host.store.reader.of(TokenRow).first()).used

    for _ in range(3):
        await who(host, token=token)
    await asyncio.sleep(0)
    first = await used()
    assert first is not None
    clock.advance(30)
    await who(host, token=token)
    await asyncio.sleep(0)
    assert await used() == first
    clock.advance(31)
    await who(host, token=token)
    await asyncio.sleep(0)
    assert await used() > first


async def test_foreign_tokens_and_sessions_do_not_exist(host):
    anna, bert = await add_account(host, "anna"), await add_account(host, "bert")
    made = await tokens.create_token(host, anna, people.NewToken(name="x"))
    with pytest.raises(NotFound):
        await tokens.revoke_token(host, bert, made.id)
    _, row = tokens.new_session(host, anna.id, "firefox")
    await host.store.writer.write([row])
    session = await host.store.reader.of(SessionRow).get()
    with pytest.raises(NotFound):
        await tokens.revoke_session(host, bert, session.id[:16])
    await tokens.revoke_session(host, anna, session.id[:16])
    assert (await host.store.reader.of(SessionRow).get()).revoked is not None


async def test_a_stranger_who_guesses_too_fast_has_to_wait(host, clock):
    for _ in range(100):
        await refused(host, token="kru_nonsense")
    with pytest.raises(TooMany):
        await who(host, token="kru_nonsense")
    clock.advance(1)
    await refused(host, token="kru_nonsense")


async def test_the_lab_signs_its_account_in_by_a_private_file_and_ends_the_older_token(host, tmp_path):
    path = tmp_path / "deep" / "lab.json"
    name = await accounts.lab_token(host, path, url="http://127.0.0.1:8000")
    first = json.loads(path.read_text())
    caller = await who(host, token=first["token"])
    assert (caller.actor.name, caller.actor.role, caller.actor.how, caller.actor.fresh) == (
        name, Role.ADMIN, How.LOCAL, True
    )  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await accounts.lab_token(host, path, url="http://127.0.0.1:8000")
    await refused(host, token=first["token"])
    assert (await who(host, token=json.loads(path.read_text())["token"])).actor.name == name
    assert sorted(one.name for one in path.parent.iterdir()) == ["lab.json"]


async def test_without_sign_in_everybody_is_a_local_admin_with_an_account(tmp_path, clock):
    settings = HostSettings(data_dir=tmp_path, auth=False)
    async with opened_host(tmp_path, clock=clock, settings=settings) as host:
        caller = await who(host)
        assert (caller.actor.name, caller.actor.role, caller.actor.fresh) == ("local", Role.ADMIN, True)
        assert await host.store.reader.of(UserRow).filter(id=caller.actor.id).exists()
        assert await accounts.first_secret(host) is None


async def test_a_read_token_sees_itself_and_mints_nothing(host):
    anna = await add_account(host, "anna")
    caller = await who(host, token=await token_of(host, anna, word=READ))
    assert (await users.show_user(host, caller.actor, "anna")).name == "anna"
    with pytest.raises(NotAllowed):
        await tokens.create_token(host, caller.actor, people.NewToken(name="x"))
