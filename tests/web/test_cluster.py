"""Health, numbers and the history over HTTP."""

import asyncio
import json

import aiohttp

from kohakuriver.domain.access import Role
from kohakuriver.host import users
from kohakuriver.testing.hosts import add_account
from kohakuriver.wire import people, urls

REMOTE = {"X-Forwarded-For": "192.0.2.1"}


async def test_a_stranger_learns_that_it_is_well_and_no_more(web):
    for path in (urls.LIVEZ, urls.READYZ, urls.HEALTHZ):
        answer = await web.get(path, headers=REMOTE)
        assert (answer.status, answer.json) == (200, {"ok": True, "checks": {}})
    assert (await web.get(f"{urls.READYZ}?verbose", headers=REMOTE)).status == 401
    assert (await web.get(urls.VERSION, headers=REMOTE)).status == 401


async def test_each_check_is_named_to_who_may_see_it(web):
    for headers in ({}, {**REMOTE, "Authorization": f"Bearer {web.tokens['viewer']}"}):
        answer = await web.get(f"{urls.READYZ}?verbose", headers=headers)
        assert answer.json == {"ok": True, "checks": {"store": "ok", "scheduler": "ok", "disk": "ok"}}


async def test_a_scheduler_that_hangs_makes_it_unready(web, clock):
    clock.advance(16)
    answer = await web.get(f"{urls.READYZ}?verbose")
    assert answer.status == 503
    assert answer.json["checks"]["scheduler"] == "does not run"
    assert (await web.get(urls.LIVEZ)).status == 200


async def test_a_store_that_takes_no_writes_makes_it_unready(web, host):
    await host.store.writer.close()
    answer = await web.get(f"{urls.READYZ}?verbose")
    assert (answer.status, answer.json["checks"]["store"]) == (503, "store")


async def test_metrics_are_for_this_machine_and_who_is_signed_in(web):
    assert (await web.get(urls.METRICS)).status == 200
    assert (await web.get(urls.METRICS, headers=REMOTE)).status == 401
    assert (await web.get(urls.METRICS, headers=REMOTE, as_="viewer")).status == 200


async def test_plugins_and_version_are_told_to_who_is_signed_in(web):
    plugins = (await web.get(urls.PLUGINS, as_="viewer")).json["items"]
    assert ("localauth", "enabled", ["auth local"]) in [(one["name"], one["state"], one["provides"]) for one in plugins]
    assert (await web.get(urls.VERSION, as_="viewer")).json["product"] == "KohakuRiver"
    assert (await web.get(urls.OPENAPI, as_="viewer")).json["openapi"] == "3.1.0"


async def test_the_history_is_for_operators_and_pages_backwards(web, host):
    root = await add_account(host, "root", Role.ADMIN)
    for number in range(5):
        await users.add_user(host, root, people.NewUser(name=f"user{number}"))
    assert (await web.get(urls.EVENTS, as_="user")).status == 403
    seen, cursor = [], None
    for _ in range(10):
        path = urls.fill(urls.EVENTS, {"limit": 2, "cursor": cursor})
        page = (await web.get(path, as_="operator")).json
        seen += [one["detail"].get("name") for one in page["items"] if one["what"] == "user_added"]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"user{number}" for number in reversed(range(5))]


async def follow(web, query="follow=1", accept="application/x-ndjson", as_="viewer"):
    headers = {"Accept": accept, "Authorization": f"Bearer {web.tokens[as_]}"}
    return await web.http.get(f"{web.url}{urls.EVENTS}?{query}", headers=headers)


async def line(response):
    return await asyncio.wait_for(response.content.readline(), 60)


async def test_changes_come_as_lines_of_json(web, host):
    async with await follow(web) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert json.loads(await line(response))["kind"] == "hello"
        host.changes.publish("task", 7, "running")
        change = json.loads(await line(response))
        assert (change["kind"], change["ref"], change["status"]) == ("task", "7", "running")


async def test_changes_come_as_server_sent_events(web, host):
    async with await follow(web, accept="text/event-stream") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        hello = [await line(response) for _ in range(4)]
        assert hello[1:] == [b"event: hello\n", b'data: {"id":0,"kind":"hello"}\n', b"\n"]
        host.changes.publish("node", 3)
        lines = [await line(response) for _ in range(4)]
        assert lines[0].startswith(b"id: ")
        assert lines[1] == b"event: node\n"
        assert json.loads(lines[2].removeprefix(b"data: "))["ref"] == "3"


async def test_a_quiet_stream_is_kept_alive_by_pings(web, monkeypatch):
    from kohakuriver.web.api import events

    monkeypatch.setattr(events, "PING_SECONDS", 0.01)
    async with await follow(web) as lines, await follow(web, accept="text/event-stream") as sse:
        await line(lines)
        assert json.loads(await line(lines))["kind"] == "ping"
        for _ in range(4):
            await line(sse)
        assert await line(sse) == b": ping\n"


async def test_a_slow_reader_is_told_that_it_missed_something(web, host):
    async with await follow(web) as response:
        await line(response)
        for number in range(5000):
            host.changes.publish("task", number, "running")
        assert json.loads(await line(response))["kind"] == "lagged"


async def test_the_stream_ends_when_the_host_stops(web, host):
    async with await follow(web) as response:
        await line(response)
        host.changes.close()
        assert await line(response) == b""


async def test_a_revoked_credential_ends_its_stream(web, host):
    root = await add_account(host, "root", Role.ADMIN)
    async with await follow(web) as response:
        await line(response)
        await users.change_user(host, root, "viewer", people.ChangeUser(disabled=True))
        host.changes.publish("task", 7, "running")
        try:
            rest = await line(response)
        except aiohttp.ClientPayloadError:
            rest = b""
        assert rest == b""


async def test_a_stream_of_something_that_is_not_there_is_refused(web):
    for query in ("follow=1&task=123456", "follow=1&node=nowhere"):
        async with await follow(web, query) as response:
            assert response.status == 404
