"""Every route, asked by everybody, against the table in authorization.txt; nobody sees what is not theirs to see.

A route without a row fails. After a change on purpose: `python -m pytest tests/web/test_authorization.py` shows the rows as
they are now, to be read by a person before they go into the table.
"""

import base64
import json
import secrets
from pathlib import Path

import aiohttp
import pytest

from kohakuriver.host.throttle import Attempts
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.hosts import served
from kohakuriver.testing.runners import add_node
from kohakuriver.web.routes import ROUTES
from kohakuriver.wire import urls
from kohakuriver.wire.link import STREAM_PROTOCOL

from .people import SEES, WHO, run, settle

TABLE = Path(__file__).with_name("authorization.txt")
#: asked through a proxy, so that nobody counts as being at this machine
REMOTE = {"X-Forwarded-For": "192.0.2.1"}
UPGRADES = {
    "link": {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    },
    "stream": {"Connection": "Upgrade", "Upgrade": STREAM_PROTOCOL},
    "container_shell": {"Connection": "Upgrade", "Upgrade": STREAM_PROTOCOL},
}  # fmt: skip
#: rows besides the plain one: what is asked differently
MORE = {
    "show_readiness": ("verbose",),
    "show_metrics": ("here",),
    "list_events": ("follow",),
    "link": ("evil", "null"),
    "stream": ("evil", "null"),
    "container_shell": ("evil", "null"),
}
QUERIES = {"verbose": "?verbose", "follow": "?follow=1"}
#: routes that need a query
AT_PATH = {"list_files", "stat_file", "read_file", "write_file", "delete_file"}
ORIGINS = {"evil": "http://evil.example", "null": "null"}


def body_of(operation):
    """A good body, or one that a good credential is refused for without harm."""
    bodies = {
        "join": {"token": "krj_x", "name": "machine"},
        "set_up": {"secret": "kri_x", "password": "correct horse battery"},
        "log_in": {"user": "owner", "password": "wrong password"},
        "change_password": {"old": "wrong password", "new": "correct horse battery"},
        "create_token": {"name": "ci"},
        "create_user": {"name": f"u{secrets.token_hex(6)}"},
        "change_user": {"display": secrets.token_hex(6)},
        "create_tasks": {"command": ["true"]},
        "plan_tasks": {"command": ["true"]},
        "label_node": {"labels": {"room": "b12"}},
        "limit_user": {"most_cores": 64},
        "cordon_card": {"device": "0"},
        "uncordon_card": {"device": "0"},
        "publish_reference": {"image": "debian:12"},
        "create_container": {"name": "my-env", "image": "debian:12"},
        "make_folder": {"path": "/srv/a"},
        "rename_file": {"path": "/srv/a", "to": "/srv/b"},
        "list_missing": {"digests": []},
        "create_node_token": {"name": f"m{secrets.token_hex(6)}"},
    }
    return bodies.get(operation, {})


def rows():
    return [(route, word) for route in ROUTES for word in ("", *MORE.get(route.operation, ()))]


def named(route, word):
    return f"{route.operation} {word}".strip()


def table():
    lines = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    assert tuple(lines[0].split("|")[1].split()) == WHO
    return {name.strip(): cells.split() for name, _, cells in (line.partition("|") for line in lines[1:])}


def written(cells):
    """The table as text, for a person to read."""
    lines = [f"{'':28}| " + " ".join(f"{who:9}" for who in WHO).rstrip()]
    lines += [f"{name:28}| " + " ".join(f"{cell:9}" for cell in row).rstrip() for name, row in cells.items()]
    return "\n".join(lines)


class Asker:
    """Asks one cell of the table; keeps all that anybody was told."""

    def __init__(self, http, url, town):
        self.http, self.url, self.town = http, url, town
        self.told = {who: [] for who in WHO}

    async def ask(self, who, route, word="", *, parts=None):
        visitors(self.town.host).attempts = Attempts()
        token = await self.town.token(who)
        headers = {**({} if word == "here" else REMOTE), **UPGRADES.get(route.operation, {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if word in ORIGINS:
            headers["Origin"] = ORIGINS[word]
        path = urls.fill(route.path, **(parts or await self.town.parts())) + QUERIES.get(word, "")
        path += "?path=/srv" if route.operation in AT_PATH else ""
        body = body_of(route.operation) if route.body is not None else None
        async with self.http.request(route.method, self.url + path, headers=headers, json=body) as response:
            endless = response.status == 101 or (word == "follow" and response.status == 200)
            answer = (
                await response.content.readline() if word == "follow" else b"" if endless else await response.read()
            )
            if endless:
                response.close()
            self.told[who].append((named(route, word), f"{dict(response.headers)}".encode() + answer))
            return response.status, answer, response.headers


@pytest.fixture
async def asker(host):
    town, peer = await settle(host), await add_node(host, "home")
    await peer.connect()
    async with served(host) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        asker = Asker(http, url, town)
        followed = {who: await follow(asker, who) for who in ("viewer", "foreign")}
        await run(town, peer)
        yield asker
        host.changes.close()
        for response in followed.values():
            response.close()


async def follow(asker, who):
    """The stream of changes, from before the task exists."""
    headers = {**REMOTE, "Authorization": f"Bearer {await asker.town.token(who)}"}
    return await asker.http.get(f"{asker.url}{urls.EVENTS}?follow=1", headers=headers)


def forms(text):
    """The text as it may stand in an answer."""
    raw = text.encode()
    return {raw, base64.b64encode(raw)[:-4], raw.hex().encode()}


def leaks(asker):
    """Who was told what they may not see, and by which route."""
    town, found = asker.town, []
    for who, answers in asker.told.items():
        hidden = dict(town.secrets) if who in SEES else town.secrets | town.details
        hidden |= {f"credential of {name}": text for name, text in town.dead.items()}
        found += [
            (who, what, where)
            for where, answer in answers
            for what, text in hidden.items()
            if any(form in answer for form in forms(text))
        ]
    return found


async def test_everybody_is_answered_as_the_table_says_and_told_nothing_else(asker):
    cells = {}
    for route, word in rows():
        answers = [await asker.ask(who, route, word) for who in WHO]
        cells[named(route, word)] = [str(status) for status, _, _ in answers]
        assert {status for status, _, _ in answers}.isdisjoint({500, 503}), named(route, word)
    expected = table()
    assert written(cells) == written({name: expected.get(name, ["-"]) for name in cells}), f"\n{written(cells)}"
    assert set(expected) == set(cells)
    assert leaks(asker) == []
    # the search does find what it looks for
    words = asker.town.details
    seen = {what for what, text in words.items() if any(text.encode() in answer for _, answer in asker.told["owner"])}
    assert seen == set(words)


async def test_followers_of_changes_are_told_ids_and_states_alone(host):
    town, peer = await settle(host), await add_node(host, "home")
    await peer.connect()
    async with served(host) as url, aiohttp.ClientSession() as http:
        asker = Asker(http, url, town)
        streams = {who: await follow(asker, who) for who in ("viewer", "foreign", "owner", "admin")}
        await run(town, peer)
        host.changes.close()
        for who, response in streams.items():
            told = await response.read()
            kinds = [json.loads(line) for line in told.splitlines()]
            assert {"kind": "task", "ref": town.task, "status": "failed"} in [
                {key: change.get(key) for key in ("kind", "ref", "status")} for change in kinds
            ], who
            assert set().union(*kinds) <= {"id", "kind", "ref", "status"}
            asker.told["viewer"].append(("list_events follow", told))
    assert leaks(asker) == []


def missing(parts):
    """The same kinds of things, with names that nothing has."""
    number = str(int(parts["task"]) + 1)
    return {**parts, "task": number, "batch": number, "token": "Z" * 10, "session": "f" * 16}


def told(answer, parts):
    """An answer without what must differ: ids, the time, the number of the request."""
    status, body, headers = answer
    problem = json.loads(body)
    problem.pop("request_id", None)
    text = json.dumps(problem)
    for name in ("task", "token", "session"):
        text = text.replace(parts[name], f"<{name}>")
    kept = {key: value for key, value in headers.items() if key not in ("Date", "X-Request-ID", "Content-Length")}
    return status, text, kept


@pytest.mark.parametrize("who", ["viewer", "foreign", "operator", "admin"])
async def test_what_is_another_s_answers_word_for_word_as_what_is_not_there(asker, who):
    column, compared = WHO.index(who), []
    for route in ROUTES:
        cells = table()[route.operation]
        if cells[column] != "404" or route.socket:
            continue
        there = await asker.town.parts()
        away = missing(there)
        compared.append(route.operation)
        here = told(await asker.ask(who, route, parts=there), there)
        assert here == told(await asker.ask(who, route, parts=away), away), route.operation
    wanted = {
        "viewer": {"revoke_token", "revoke_session", "read_output"},
        "foreign": {"revoke_token", "revoke_session", "read_output", "kill_task", "pause_task", "resume_task"}
        | {"requeue_task", "kill_batch", "pause_batch", "resume_batch"},
        # nobody has these things
        "operator": {"revoke_token", "revoke_session", "remove_environment", "remove_version", "show_operation"},
        "admin": {"revoke_session", "remove_environment", "remove_version", "show_operation"},
    }
    assert set(compared) == wanted[who]
