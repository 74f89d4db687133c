"""Signing in, one's own credentials, and the accounts of others, over HTTP: decode, call, encode."""

from typing import Any

from aiohttp import web

from kohakuriver.host import sign_in, tokens, users
from kohakuriver.host.sign_in import Entered, From
from kohakuriver.web.call import Call
from kohakuriver.web.cookies import drop_cookie, set_cookie
from kohakuriver.wire import api, codec, people, queries


async def set_up(call: Call[queries.Query, people.Setup]) -> web.Response:
    """First use of an account."""
    return _entered(call, await sign_in.setup(call.host, call.body, _where(call)))


async def log_in(call: Call[queries.Query, people.Login]) -> web.Response:
    """A session cookie, or a token if one is asked for."""
    return _entered(call, await sign_in.login(call.host, call.body, _where(call)))


async def log_out(call: Call[queries.Query, None]) -> web.Response:
    """Ends the credential that came with this request."""
    await sign_in.logout(call.host, call.caller)
    response = web.Response(status=204)
    drop_cookie(response, call.host.settings)
    return response


async def show_me(call: Call[queries.Query, None]) -> people.UserView:
    """Who one is."""
    return await users.show_user(call.host, call.actor, str(call.actor.id))


async def change_password(call: Call[queries.Query, people.ChangePassword]) -> None:
    """A new password."""
    await sign_in.change_password(call.host, call.caller, call.body, _where(call))


async def list_tokens(call: Call[queries.Paging, None]) -> api.Page[people.TokenView]:
    """One's own tokens."""
    return await tokens.list_tokens(call.host, call.actor)


async def create_token(call: Call[queries.Query, people.NewToken]) -> people.TokenView:
    """A token for programs."""
    return await tokens.create_token(call.host, call.actor, call.body, key=call.key)


async def revoke_token(call: Call[queries.Query, None]) -> None:
    """Ends a token."""
    await tokens.revoke_token(call.host, call.actor, call.part("token"))


async def list_sessions(call: Call[queries.Paging, None]) -> api.Page[people.SessionView]:
    """One's own sessions."""
    return await tokens.list_sessions(call.host, call.caller)


async def revoke_session(call: Call[queries.Query, None]) -> None:
    """Ends a session."""
    await tokens.revoke_session(call.host, call.actor, call.part("session"))


async def list_users(call: Call[queries.Paging, None]) -> api.Page[people.UserView]:
    """Accounts by name."""
    return await users.list_users(call.host, call.actor, cursor=call.query.cursor, limit=call.query.limit)


async def create_user(call: Call[queries.Query, people.NewUser]) -> people.SetupLink:
    """A new account."""
    return await users.add_user(call.host, call.actor, call.body, key=call.key)


async def show_user(call: Call[queries.Query, None]) -> people.UserView:
    """One account."""
    return await users.show_user(call.host, call.actor, call.part("user"))


async def change_user(call: Call[queries.Query, people.ChangeUser]) -> people.UserView:
    """Role, name, limit, or whether it may sign in."""
    return await users.change_user(call.host, call.actor, call.part("user"), call.body)


async def limit_user(call: Call[queries.Query, people.LimitUser]) -> people.UserView:
    """What it may have at once."""
    return await users.limit_user(call.host, call.actor, call.part("user"), call.body)


async def create_setup_link(call: Call[queries.Query, None]) -> people.SetupLink:
    """A new one-time link."""
    return await users.renew_link(call.host, call.actor, call.part("user"), key=call.key)


def _where(call: Call[Any, Any]) -> From:
    return From(address=call.address, client=call.request.headers.get("User-Agent", ""))


def _entered(call: Call[Any, Any], entered: Entered) -> web.Response:
    response = web.Response(body=codec.encode(entered.answer), content_type="application/json")
    if entered.cookie is not None:
        set_cookie(response, call.host.settings, entered.cookie)
    return response
