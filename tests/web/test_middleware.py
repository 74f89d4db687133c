"""Bad requests get a sentence, never a trace; browsers of other sites get nothing."""

import asyncio
import gzip
import io
import json

import pytest

from kohakuriver.web import reading
from kohakuriver.web.problems import STATUSES
from kohakuriver.wire import urls

TASKS = urls.TASKS
LOGIN = urls.LOGIN
JSON = {"Content-Type": "application/json"}
GOOD = {"user": "nobody", "password": "x"}


async def raw(web, data):
    """One request as bytes; the status line and headers, and the body."""
    host, _, port = web.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(65536), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def is_problem(answer, status, code):
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["code"] == code
    assert answer.json["status"] == status
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.body.decode()
    assert "/kohakuriver/" not in answer.body.decode()
    return True


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid"),
        (b"{", 400, "malformed"),
        (b"null", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b'{"command": "ls"}', 422, "invalid"),
        (b'{"nonsense": 1}', 422, "invalid"),
        (b'{"cores": 1, "cores": 2}', 400, "malformed"),
        (b'{"cores": NaN}', 400, "malformed"),
        (b'{"cores": 1e999}', 422, "invalid"),
        (b'{"cores": 1000000000000000000000000000000}', 422, "invalid"),
        (b'{"cores": 9223372036854775808}', 422, "invalid"),
        (b'{"cores": -1}', 422, "invalid"),
        (b'{"command": ["\\u0000"]}', 400, "malformed"),
        (b'{"command": ["\\ud800"]}', 400, "malformed"),
        (b'{"command": ["\xff"]}', 400, "malformed"),
        (b'{"options": {"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}", 400, "malformed"),
        (b'{"command": [' + b'"a",' * 5000 + b'"a"]}', 422, "invalid"),
        (b'{"name": "' + b"x" * 200 + b'"}', 422, "invalid"),
    ],
)
async def test_bad_bodies_are_refused_in_words(web, body, status, code):
    answer = await web.ask("POST", TASKS, as_="user", data=body, headers=JSON)
    is_problem(answer, status, code)


async def test_an_error_names_field_and_limit(web):
    answer = await web.post(TASKS, as_="user", json={"command": ["ls"], "copies": 10**6})
    assert is_problem(answer, 422, "invalid")
    assert answer.json["field"] == "copies"
    assert "5000" in answer.json["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_only_plain_json_in_utf8_is_read(web, headers):
    data = gzip.compress(json.dumps(GOOD).encode()) if "Content-Encoding" in headers else json.dumps(GOOD).encode()
    is_problem(await web.ask("POST", LOGIN, data=data, headers=headers), 415, "unsupported_type")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_a_mebibyte_is_refused(web, chunked):
    async def parts():
        for _ in range(40):
            yield b" " * 32_768

    data = parts() if chunked else io.BytesIO(b" " * (1024 * 1024 + 1))
    is_problem(await web.ask("POST", TASKS, as_="user", data=data, headers=JSON), 413, "too_large")


async def test_a_body_that_does_not_arrive_is_given_up(web, monkeypatch):
    monkeypatch.setattr(reading, "READ_SECONDS", 0.05)
    head = f"POST {LOGIN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    status, body = await raw(web, head.encode())
    assert status == 408
    assert json.loads(body)["code"] == "too_slow"


async def test_conflicting_lengths_and_broken_requests_end_with_400(web):
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    assert (await raw(web, head))[0] == 400
    assert (await raw(web, b"\x00\x01\x02 nonsense\r\n\r\n"))[0] == 400


async def test_unknown_paths_and_methods(web):
    is_problem(await web.get("/nothing"), 404, "not_found")
    is_problem(await web.get("/api/v1/tasks/%2e%2e%2f/x", as_="user"), 404, "not_found")
    answer = await web.ask("DELETE", urls.STATUS, as_="user")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET"
    answer = await web.get(urls.TASKS, as_="user", headers={"X-HTTP-Method-Override": "POST"})
    assert answer.status == 200


@pytest.mark.parametrize("ref", ["%00", "%0a", "a%1b", "x" * 301, "%ed%a0%80", "..%2f..", "%20"])
async def test_strange_parts_of_a_path_name_nothing(web, ref):
    is_problem(await web.get(f"{TASKS}/{ref}", as_="admin"), 404, "not_found")
    is_problem(await web.get(f"{urls.USERS}/{ref}", as_="admin"), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=abc", "limit=", "limit=null", "limit=1&limit=2", "nonsense=1",
        "cursor=%00", "cursor=nonsense", "status=nonsense", "sort=nonsense", "mine=perhaps",
        "limit=99999999999999999999999", "limit=1.5", "owner=%ed%a0%80" + "x" * 300,
    ],
)  # fmt: skip
async def test_bad_parameters_are_refused(web, query):
    answer = await web.get(f"{TASKS}?{query}", as_="user")
    assert answer.status in {400, 422}, (query, answer.body)
    assert answer.json["code"] in {"malformed", "invalid"}


async def test_a_wait_of_no_number_is_refused(web):
    for text in ("nan", "inf", "-1", "1e9"):
        answer = await web.get(f"/api/v1/tasks/1234/wait?timeout={text}", as_="user")
        is_problem(answer, 422, "invalid")


async def test_a_bug_is_told_to_the_log_and_not_to_the_client(web, host, caplog, monkeypatch):
    monkeypatch.setattr(host.roster, "live", lambda: 1 / 0)
    answer = await web.get(urls.NODES, as_="user", headers={"X-Request-ID": "mine-1"})
    is_problem(answer, 500, "internal")
    assert answer.json["request_id"] == "mine-1"
    records = [record for record in caplog.records if record.exc_info]
    assert [record.request_id for record in records] == ["mine-1"]
    assert (await web.get(urls.STATUS, as_="user")).status == 500


async def test_an_id_of_a_request_that_is_no_id_is_replaced(web):
    for given in ("a b", "x" * 65, "é"):
        answer = await web.get(urls.LIVEZ, headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] != given


async def test_every_answer_has_the_headers_that_keep_browsers_safe(web):
    for path in (urls.LIVEZ, "/nothing", urls.STATUS):
        headers = (await web.get(path)).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "kohakuriver"


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "localhost.evil.example", ""])
async def test_a_name_that_is_not_ours_is_refused(web, name):
    status, body = await raw(web, f"GET /livez HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    assert status == 403
    assert json.loads(body)["code"] == "unknown_host"


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000", "192.0.2.1"])
async def test_our_names_and_addresses_are_taken(web, name):
    status, _ = await raw(web, f"GET /livez HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    assert status == 200


def test_every_kind_of_error_has_a_status():
    assert set(STATUSES.values()) <= {400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 500, 502, 503, 507}


@pytest.mark.parametrize(
    "number", ["0", "9223372036854775807", "9223372036854775808", "9999999999999999999", "9" * 200]
)
async def test_numbers_that_no_id_can_be_name_nothing(web, number):
    paths = [f"{TASKS}/{number}", f"{TASKS}/{number}/history", f"{urls.USERS}/{number}", f"{urls.NODES}/{number}"]
    for path in paths:
        is_problem(await web.get(path, as_="admin"), 404, "not_found")
    assert (await web.get(f"{TASKS}?batch={number}", as_="admin")).status in {200, 422}
    assert (await web.get(f"{urls.EVENTS}?task={number}", as_="admin")).status in {404, 422}


@pytest.mark.parametrize("length", [10, 11, 33, 64, 65, 253, 256, 300])
async def test_names_longer_than_any_column_name_nothing(web, length):
    for path in (f"{urls.USERS}/{'x' * length}", f"{TASKS}/{'x' * length}", f"{urls.NODES}/{'x' * length}"):
        is_problem(await web.get(path, as_="admin"), 404, "not_found")
    is_problem(await web.ask("DELETE", f"{urls.TOKENS}/{'x' * length}", as_="admin"), 404, "not_found")
    is_problem(await web.post(f"{urls.USERS}/{'x' * length}/setup-link", as_="admin"), 404, "not_found")
    assert (await web.get(f"{urls.USERS}?cursor={'x' * length}", as_="admin")).status == 200
    for name in ("name", "owner", "node"):
        answer = await web.get(f"{TASKS}?{name}={'x' * length}", as_="admin")
        assert answer.status in {200, 404, 422}, (name, answer.body)
