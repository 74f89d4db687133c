"""What the history keeps of who did what, and what it must never hold; keys of requests whose answers hold secrets."""

import asyncio
import json

import aiohttp
import pytest

from kohakuriver.host import accounts
from kohakuriver.store.models import EventRow, IdempotencyRow, OnceRow, TokenRow, UserRow
from kohakuriver.testing.hosts import served
from kohakuriver.testing.runners import add_node
from kohakuriver.wire import urls

from .conftest import Web
from .people import run, settle

HERE = "127.0.0.1"


async def rows(host, **where):
    found = await host.store.reader.of(EventRow).filter(**where).order_by("id").values()
    return [row | {"detail": json.loads(row["detail"])} for row in found]


async def via(host, token):
    return (await accounts.identify(host, token=token, cookie=None, address=HERE)).actor.via


CHANGES = [
    ("user_added", "admin", urls.USERS, {"name": "newcomer"}),
    ("user_link_made", "admin", f"{urls.USERS}/user/setup-link", None),
    ("token_made", "user", urls.TOKENS, {"name": "ci"}),
    ("node_token_made", "admin", urls.NODE_TOKENS, {"name": "machine"}),
    ("node_drained", "operator", f"{urls.NODES}/home/drain", {"reason": "dust"}),
    ("node_undrained", "operator", f"{urls.NODES}/home/undrain", None),
    ("node_revoked", "admin", f"{urls.NODES}/home/revoke", None),
]


@pytest.mark.parametrize(("what", "who", "path", "body"), CHANGES, ids=[change[0] for change in CHANGES])
async def test_a_change_says_who_made_it_with_which_credential_and_from_where(web, host, what, who, path, body):
    await add_node(host, "home")
    before = len(await rows(host))
    answer = await web.post(path, as_=who, json=body)
    assert answer.status in {200, 201}, answer.body
    (row,) = (await rows(host))[before:]
    assert (row["what"], row["actor"]) == (what, who)
    assert row["detail"]["via"] == await via(host, web.tokens[who])
    assert row["detail"]["address"] == HERE
    assert web.tokens[who] not in json.dumps(row)


async def test_changes_of_people_say_what_was_and_what_is(web, host):
    await web.ask("PATCH", f"{urls.USERS}/viewer", as_="admin", json={"role": "user", "disabled": True})
    (row,) = await rows(host, what="user_changed")
    assert (row["detail"]["before"], row["detail"]["after"]) == (
        {"role": "viewer", "state": "active"},
        {"role": "user", "state": "disabled"},
    )
    assert row["detail"]["via"]


async def test_reading_output_of_others_is_told_with_the_owner_s_name_and_one_s_own_is_not(host):
    town, peer = await settle(host), await add_node(host, "home")
    await peer.connect()
    await run(town, peer)
    async with served(host) as url, aiohttp.ClientSession() as http:
        people = ("owner", "foreign", "viewer", "operator", "admin")
        web = Web(url, http, {name: await town.token(name) for name in people})
        path = f"{urls.TASKS}/{town.task}/output/stdout"
        assert [(await web.get(path, as_=who)).status for who in people] == [200, 404, 404, 200, 200]
    told, owner = await rows(host, what="output_read"), town.actors["owner"].id
    assert [(row["actor"], row["user"], row["detail"]["owner"], str(row["task"])) for row in told] == [
        ("operator", owner, "owner", town.task),
        ("admin", owner, "owner", town.task),
    ]
    assert all(row["detail"]["via"] and row["detail"]["address"] == HERE for row in told)


async def test_where_somebody_came_from_is_told_to_operators_alone(web, host):
    task = (await web.post(urls.TASKS, as_="user", json={"command": ["true"]})).json["tasks"][0]
    await web.post(f"{urls.TASKS}/{task}/kill", as_="operator")
    for who, seen in (("viewer", False), ("user", False), ("operator", True), ("admin", True)):
        items = (await web.get(f"{urls.TASKS}/{task}/history", as_=who)).json["items"]
        assert [item["what"] for item in items] == ["submitted", "kill_wanted"]
        assert [{"via", "address"} <= set(item["detail"]) for item in items] == [seen, seen], who


async def test_the_store_keeps_no_secret_that_was_shown(web, host, tmp_path):
    """Not in the history nor anywhere else: the files of the store are searched as they lie there."""
    shown = [
        (await web.post(urls.USERS, as_="admin", json={"name": "newcomer"})).json["secret"],
        (await web.post(urls.TOKENS, as_="admin", json={"name": "ci"})).json["token"],
        (made := (await web.post(urls.NODE_TOKENS, as_="admin", json={"name": "machine"})).json["token"]),
        (await web.post(urls.JOIN, json={"token": made, "name": "machine"})).json["credential"],
        *web.tokens.values(),
    ]
    entered = await web.post(urls.SETUP, json={"secret": shown[0], "password": "correct horse battery"})
    shown += [entered.headers["Set-Cookie"].partition("=")[2].partition(";")[0], "correct horse battery"]
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"newcomer" in data for data in files)
    for text in shown:
        secret = text.rpartition("_")[2][:30].encode()
        assert len(secret) > 20
        assert not any(secret in data for data in files), text[:4]


ONCE = [
    ("admin", urls.USERS, {"name": "newcomer"}, UserRow),
    ("admin", f"{urls.USERS}/user/setup-link", None, OnceRow),
    ("user", urls.TOKENS, {"name": "ci"}, TokenRow),
    ("admin", urls.NODE_TOKENS, {"name": "machine"}, OnceRow),
]


@pytest.mark.parametrize(("who", "path", "body", "table"), ONCE, ids=["user", "link", "token", "join token"])
async def test_a_repeated_key_makes_no_second_secret(web, host, who, path, body, table):
    before = await host.store.reader.of(table).all().count()
    headers = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(*(web.post(path, as_=who, json=body, headers=headers) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 9
    again = await web.post(path, as_=who, json=body, headers=headers)
    assert (again.status, again.json["field"], again.json["value"]) == (409, "Idempotency-Key", "one")
    assert await host.store.reader.of(table).all().count() == before + 1
    assert (await host.store.reader.of(IdempotencyRow).all().values_list("response", flat=True)) == [""]
    other = await web.post(urls.TASKS, as_=who, json={"command": ["true"]}, headers=headers)
    assert other.status == 409


async def test_a_request_that_failed_does_not_use_its_key_up(web):
    headers = {"Idempotency-Key": "one"}
    taken = await web.post(urls.USERS, as_="admin", json={"name": "viewer"}, headers=headers)
    assert (taken.status, taken.json["field"]) == (409, "name")
    made = await web.post(urls.USERS, as_="admin", json={"name": "newcomer"}, headers=headers)
    assert made.status == 201


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "ä"])
async def test_a_key_that_is_none_is_refused_everywhere(web, host, key):
    before = await host.store.reader.of(TokenRow).all().count()
    answer = await web.post(urls.TOKENS, as_="user", json={"name": "ci"}, headers={"Idempotency-Key": key})
    assert answer.status in {400, 422}
    assert await host.store.reader.of(TokenRow).all().count() == before
