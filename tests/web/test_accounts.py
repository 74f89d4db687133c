"""Signing in over HTTP: cookies, where requests may come from, and what is hidden."""

import pytest

from kohakuriver.domain.access import Role
from kohakuriver.host import tokens
from kohakuriver.host.callers import READ
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.hosts import add_account, token_of
from kohakuriver.wire import urls

PASSWORD = "correct horse battery"


@pytest.fixture
async def cookie(web):
    """The session cookie of a new user."""
    link = (await web.post(urls.USERS, as_="admin", json={"name": "anna"})).json
    answer = await web.post(urls.SETUP, json={"secret": link["secret"], "password": PASSWORD})
    assert answer.status == 200
    assert "token" not in answer.json
    return answer.headers["Set-Cookie"]


async def test_a_cookie_is_for_this_site_alone_and_for_no_script(cookie):
    assert cookie.startswith("kr_session=krs_")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie


async def test_a_cookie_signs_in_and_out(web, cookie):
    kept = cookie.partition(";")[0]
    me = await web.get(urls.ME, headers={"Cookie": kept})
    assert (me.json["name"], me.json["role"]) == ("anna", "user")
    out = await web.post(urls.LOGOUT, headers={"Cookie": kept, "Origin": web.url})
    assert out.status == 204
    assert 'kr_session=""' in out.headers["Set-Cookie"]
    assert (await web.get(urls.ME, headers={"Cookie": kept})).status == 401


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Origin": "SELF"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
    ],
)
async def test_a_cookie_changes_something_only_from_our_own_pages(web, cookie, headers, passes):
    headers = {name: web.url if text == "SELF" else text for name, text in headers.items()}
    headers["Cookie"] = cookie.partition(";")[0]
    answer = await web.ask("DELETE", f"{urls.SESSIONS}/nothing", headers=headers)
    assert answer.status == (404 if passes else 403)
    assert answer.json["code"] == ("not_found" if passes else "foreign_origin")


async def test_a_page_of_another_site_cannot_sign_anybody_in(web):
    answer = await web.post(urls.LOGIN, json={"user": "a", "password": "b"}, headers={"Origin": "http://evil.example"})
    assert answer.status == 403
    assert (await web.post(urls.LOGIN, json={"user": "a", "password": "b"})).status == 401


async def test_a_token_counts_before_a_cookie_and_needs_no_origin(web, cookie):
    headers = {"Cookie": cookie.partition(";")[0], "Origin": "http://evil.example"}
    answer = await web.get(urls.ME, as_="viewer", headers=headers)
    assert answer.json["name"] == "viewer"
    assert (await web.ask("DELETE", f"{urls.SESSIONS}/x", as_="viewer", headers=headers)).status == 404


async def test_a_program_signs_in_for_a_token_and_its_logout_ends_it(web, cookie):
    answer = await web.post(urls.LOGIN, json={"user": "anna", "password": PASSWORD, "token": "laptop"})
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    web.tokens["anna"] = answer.json["token"]
    listed = (await web.get(urls.TOKENS, as_="anna")).json["items"]
    assert [(one["name"], one["scope"], "token" in one) for one in listed] == [("laptop", "login", False)]
    assert (await web.post(urls.LOGOUT, as_="anna")).status == 204
    assert (await web.get(urls.ME, as_="anna")).status == 401


async def test_a_token_that_only_reads_changes_nothing(web, host):
    actor = await add_account(host, "bert", Role.ADMIN)
    web.tokens["bert"] = await token_of(host, actor, word=READ)
    assert (await web.get(urls.TASKS, as_="bert")).status == 200
    for method, path in (("POST", urls.LOGOUT), ("DELETE", f"{urls.SESSIONS}/x"), ("POST", f"{urls.TASKS}/1/kill")):
        answer = await web.ask(method, path, as_="bert")
        assert answer.status == 403, path


async def test_people_see_themselves_and_nobody_else(web):
    assert (await web.get(f"{urls.USERS}/user", as_="user")).json["name"] == "user"
    assert (await web.get(f"{urls.USERS}/admin", as_="user")).status == 403
    assert (await web.get(f"{urls.USERS}/nobody", as_="user")).status == 403
    assert (await web.get(f"{urls.USERS}/nobody", as_="admin")).status == 404


async def test_sessions_are_listed_and_ended(web, cookie):
    kept = {"Cookie": cookie.partition(";")[0]}
    (shown,) = (await web.get(urls.SESSIONS, headers=kept)).json["items"]
    assert shown["current"]
    assert shown["id"] not in cookie
    answer = await web.ask("DELETE", f"{urls.SESSIONS}/{shown['id']}", headers={**kept, "Origin": web.url})
    assert answer.status == 204
    assert (await web.get(urls.ME, headers=kept)).status == 401


async def test_tokens_are_made_shown_once_and_ended(web):
    made = await web.post(urls.TOKENS, as_="user", json={"name": "ci", "expires": 3600, "scope": "read"})
    assert made.status == 201
    assert made.json["token"].startswith("kru_")
    web.tokens["ci"] = made.json["token"]
    assert (await web.get(urls.ME, as_="ci")).json["name"] == "user"
    assert (await web.post(urls.TOKENS, as_="ci", json={"name": "more"})).status == 403
    assert (await web.ask("DELETE", f"{urls.TOKENS}/{made.json['id']}", as_="viewer")).status == 404
    assert (await web.ask("DELETE", f"{urls.TOKENS}/{made.json['id']}", as_="user")).status == 204
    assert (await web.get(urls.ME, as_="ci")).status == 401


async def test_wrong_passwords_get_429_with_a_time(web, cookie):
    body = {"user": "anna", "password": "wrong"}
    statuses = [(await web.post(urls.LOGIN, json=body)).status for _ in range(5)]
    answer = await web.post(urls.LOGIN, json=body)
    assert statuses == [401] * 5
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1


async def test_the_cookie_over_tls_is_bound_to_the_host(host):
    from dataclasses import replace

    from aiohttp import web as aiohttp_web

    from kohakuriver.web.cookies import set_cookie

    host.settings = replace(host.settings, public_url="https://river.example")
    response = aiohttp_web.Response()
    set_cookie(response, host.settings, "text")
    text = response.cookies["__Host-kr_session"].OutputString()
    assert "Secure" in text
    assert "Path=/" in text
    assert "Domain" not in text


async def test_session_cookies_are_stored_as_hashes(web, host, cookie):
    text = cookie.partition(";")[0].partition("=")[2]
    assert tokens.session_id(text) != text
    assert len(tokens.session_id(text)) == 64


async def test_a_client_that_asks_too_often_has_to_wait_and_others_do_not(web, host, clock):
    visitors(host).known.limit(rate=1, burst=3)
    statuses = [(await web.get(urls.ME, as_="user")).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert (await web.get(urls.ME, as_="viewer")).status == 200
    clock.advance(1)
    assert (await web.get(urls.ME, as_="user")).status == 200
