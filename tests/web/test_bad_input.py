"""Every route that takes something, given what it cannot take: a sentence, nothing stored, the next request works."""

import asyncio
import gzip
import io
import json
import logging

import pytest

from kohakuriver.domain.access import RULES, Who
from kohakuriver.host.throttle import Attempts
from kohakuriver.host.visitors import visitors
from kohakuriver.store.models import MODELS
from kohakuriver.testing.runners import add_node
from kohakuriver.web.routes import ROUTES
from kohakuriver.wire import api, urls

JSON = {"Content-Type": "application/json"}
OURS = [route for route in ROUTES if not route.socket and RULES[route.policy].who is not Who.NODES]
TAKE_BODIES = [route for route in OURS if route.body is not None]
TAKE_PARTS = [route for route in OURS if route.parts]
TAKE_QUERIES = [route for route in OURS if route.query.__struct_fields__]

BODIES = {
    "not json": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "an unknown field": b'{"nonsense": 1}',
    "a field of a strange name": json.dumps({"\u202e" * 500 + "\x1b[2J": 1}).encode(),
    "a key twice": b'{"name": "a", "name": "b"}',
    "NaN": b'{"name": NaN}',
    "infinity": b'{"name": Infinity}',
    "beyond floats": b'{"name": 1e999}',
    "10^30": b'{"name": 1000000000000000000000000000000}',
    "2^63": b'{"name": 9223372036854775808}',
    "NUL": b'{"name": "\\u0000"}',
    "half a pair": b'{"name": "\\ud800"}',
    "no utf-8": b'{"name": "\xff"}',
    "utf-16": json.dumps({"name": "a"}).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"nonsense": 1}',
    "depth 10,000": b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10^5 items": b'{"name": [' + b"1," * 99_999 + b"1]}",
    "half a mebibyte of text": b'{"nonsense": "' + b"x" * 500_000 + b'"}',
    "compressed": gzip.compress(b'{"name": "a"}'),
}
TYPES = {
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"name=a"),
    "text": ({"Content-Type": "text/plain"}, b'{"name": "a"}'),
    "another charset": ({"Content-Type": "application/json; charset=utf-16"}, b'{"name": "a"}'),
    "a gzip bomb": ({**JSON, "Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)),
    "no type": ({"Content-Type": ""}, b'{"name": "a"}'),
}
PARTS = [
    "%00", "%0a", "%1b%5b2J", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%ed%a0%80", "%e2%80%ae", "x" * 300, "x" * 301, "0", "-1",
    "9" * 18, "9" * 19, "9" * 20, "9223372036854775808", "1e9", "NaN", "%27%20or%201=1--", "%25s", "{{7*7}}", "<b>", "a%2fb",
]  # fmt: skip
QUERIES = [
    "limit=0", "limit=-1", "limit=1001", "limit=9223372036854775808", "limit=1e30", "limit=NaN", "limit=", "limit=1&limit=2",
    "nonsense=1", "cursor=", "cursor=%00", "cursor=" + "x" * 600, "cursor=%ff", "offset=-1", "offset=99999999999999999999",
    "tail=-1", "tail=x", "timeout=-1", "timeout=nan", "timeout=inf", "timeout=61", "follow=perhaps", "verbose=perhaps",
    "status=nonsense", "sort=nonsense", "sort=%00", "attempt=0", "attempt=-1", "task=%00", "node=%1b", "owner=%00",
    "&".join(f"status=a{number}" for number in range(101)),
]  # fmt: skip


def name_of(route):
    return route.operation


async def rows(host):
    """How many there are of everything."""
    return {kind.__name__: await host.store.reader.of(kind).all().count() for kind in MODELS}


def filled(route):
    return urls.fill(route.path, **dict.fromkeys(route.parts, "home"))


def as_for(route):
    return "admin" if RULES[route.policy].who is Who.PEOPLE else None


def check(answer, about, statuses):
    assert answer.status in statuses, (about, answer.status, answer.body[:300])
    assert answer.headers["Content-Type"].startswith("application/problem+json"), about
    problem = answer.json
    assert problem["status"] == answer.status
    assert problem["detail"].isprintable()
    assert len(problem["detail"]) <= 400, about
    assert len(problem.get("value") or "") <= 80, about
    assert (problem.get("value") or "").isprintable(), about
    text = answer.body.decode()
    assert "Traceback" not in text
    assert ".py" not in text


@pytest.fixture
async def home(host):
    return await add_node(host, "home")


@pytest.fixture
def quiet(caplog):
    """Nothing is logged as a failure of ours."""
    caplog.set_level(logging.WARNING)
    yield caplog
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert told == []


@pytest.mark.parametrize("route", TAKE_BODIES, ids=name_of)
async def test_no_route_takes_a_bad_body(web, host, home, quiet, route):
    before = await rows(host)
    for about, data in BODIES.items():
        visitors(host).attempts = Attempts()
        answer = await web.ask(route.method, filled(route), as_=as_for(route), data=data, headers=JSON)
        check(answer, about, {400, 422})
    for about, (headers, data) in TYPES.items():
        answer = await web.ask(route.method, filled(route), as_=as_for(route), data=data, headers=headers)
        check(answer, about, {415})
    big = b'{"name": "' + b"x" * api.MOST_BODY + b'"}'
    check(
        await web.ask(route.method, filled(route), as_=as_for(route), data=io.BytesIO(big), headers=JSON),
        "too much",
        {413},
    )
    assert await rows(host) == before
    assert (await web.get(urls.ME, as_="admin")).status == 200


@pytest.mark.parametrize("route", TAKE_PARTS, ids=name_of)
async def test_no_route_takes_a_bad_name_in_its_path(web, host, home, quiet, route):
    before = await rows(host)
    for text in PARTS:
        for name in route.parts:
            parts = dict.fromkeys(route.parts, "home") | {name: "%PART%"}
            path = urls.fill(route.path, **parts).replace("%25PART%25", text)
            body = {} if route.body is not None else None
            answer = await web.ask(route.method, path, as_="admin", json=body)
            # what may be a container's name is asked of the builder, and there is none
            lacking = answer.status == 409 and answer.json["code"] == "no_builder"
            check(answer, (name, text), {404, 405, 409 if lacking else 422, 422})
    assert await rows(host) == before
    assert (await web.get(urls.ME, as_="admin")).status == 200


@pytest.mark.parametrize("route", TAKE_QUERIES, ids=name_of)
async def test_no_route_takes_a_bad_parameter(web, host, home, quiet, route):
    before = await rows(host)
    for text in QUERIES:
        known = text.partition("=")[0] in {field.encode_name for field in fields(route)}
        answer = await web.ask(route.method, f"{filled(route)}?{text}", as_="admin")
        if known and text.startswith(("task=", "node=", "owner=")):
            check(answer, text, {404, 422})
        else:
            check(answer, text, {400, 404, 422} if route.parts else {400, 422})
    assert await rows(host) == before


def fields(route):
    import msgspec

    return msgspec.structs.fields(route.query)


BAD_TASKS = [
    ({"command": []}, "command"),
    ({"command": [""]}, "command[0]"),
    ({"command": ["a"], "workdir": "here"}, "workdir"),
    ({"command": ["a"], "env": {"KOHAKURIVER_TASK_ID": "1"}}, "env.KOHAKURIVER_TASK_ID"),
    ({"command": ["a"], "env": {"A": "1"}, "secrets": {"A": "2"}}, "secrets.A"),
    ({"command": ["a"], "cores": 0, "pin": True}, "cores"),
    ({"command": ["a"], "targets": ["home:"]}, "target"),
    ({"command": ["a"], "targets": ["home::"]}, "target"),
    ({"command": ["a"], "targets": ["home::a"]}, "target"),
    ({"command": ["a"], "targets": ["home:-1"]}, "target"),
    ({"command": ["a"], "targets": ["::0"]}, "target"),
    ({"command": ["a"], "targets": ["home\u202e"]}, "target"),
    ({"command": ["a"], "targets": ["home"] * 200, "copies": 5000}, "copies"),
    ({"command": ["a"], "copies": 5001}, "copies"),
    ({"command": ["a"], "memory": 2**61}, "memory"),
    ({"command": ["a"], "priority": 1001}, "priority"),
    ({"command": ["a"], "time_limit": 0}, "time_limit"),
    ({"command": ["a"], "grace": 3601}, "grace"),
    ({"command": ["a"], "devices": {"count": 65}}, "devices.count"),
    ({"command": ["a"], "name": "a\x1b[2J"}, "name"),
    ({"command": ["a"], "name": "\u202e"}, "name"),
    ({"command": ["a"], "image": "x"}, "image"),
]


@pytest.mark.parametrize(
    ("body", "field"), BAD_TASKS, ids=[f"{number}-{one[1]}" for number, one in enumerate(BAD_TASKS)]
)
async def test_a_task_that_cannot_be_is_refused_by_name_and_not_stored(web, host, home, quiet, body, field):
    await home.connect()
    before = await rows(host)
    answer = await web.post(urls.TASKS, as_="user", json=body)
    check(answer, body, {422})
    assert answer.json["field"].startswith(field), answer.json
    assert await rows(host) == before
    assert (await web.post(urls.TASKS, as_="user", json={"command": ["true"]})).status == 201


async def test_a_task_too_big_to_be_told_is_refused_by_size(web, host, home, quiet):
    await home.connect()
    before = await rows(host)
    for body in ({"script": "x" * 131_000}, {"command": ["x" * 1000] * 300}):
        answer = await web.post(urls.TASKS, as_="user", json=body)
        check(answer, "size", {413})
        assert answer.json["limit"]
    assert await rows(host) == before


async def test_a_hundred_connections_that_send_garbage_disturb_nobody(web, quiet):
    host, _, port = web.url.removeprefix("http://").partition(":")
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    ]

    async def send(data):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        try:
            writer.write_eof()
            return await asyncio.wait_for(reader.read(65_536), 60)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        finally:
            writer.close()

    answers = await asyncio.gather(*(send(data) for data in garbage * 10))
    for answer in answers:
        assert b" 500 " not in answer.partition(b"\r\n")[0]
        assert b"Traceback" not in answer
        assert b"aiohttp" not in answer.lower(), answer
    assert (await web.get(urls.ME, as_="user")).status == 200
