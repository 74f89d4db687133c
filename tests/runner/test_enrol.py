"""Joining a cluster, with and without TLS, and every way in which it can be refused."""

import json
import stat

import pytest
from aiohttp import web

from kohakuriver.errors import ConfigError, Conflict, Gone, Invalid, NotSignedIn, Unreachable
from kohakuriver.net.streams import open_stream
from kohakuriver.runner.enrol import join, load


class Host:
    """Answers a join, and takes a stream."""

    def __init__(self, status=201, body=None):
        self.status = status
        self.body = {"node": "1", "name": "n1", "credential": "krn_x", "cluster": "c1"} if body is None else body
        self.asked = []

    async def start(self, context=None):
        app = web.Application()
        app.router.add_post("/api/v1/join", self._join)
        app.router.add_get("/stream/{ticket}", self._stream)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        scheme = "https" if context else "http"
        return f"{scheme}://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def _join(self, request):
        self.asked.append(await request.json())
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body)
        return web.json_response(self.body, status=self.status)

    async def _stream(self, request):
        response = web.StreamResponse(status=101, headers={"Upgrade": "kohakuriver-stream", "Connection": "Upgrade"})
        await response.prepare(request)
        await response.write(b"hello")
        return response


@pytest.fixture
async def hosts():
    started = []

    async def start(context=None, **fields):
        host = Host(**fields)
        host.url = await host.start(context)
        started.append(host)
        return host

    yield start
    for host in started:
        await host.runner.cleanup()


async def test_join_keeps_the_credential_for_this_machine_alone(hosts, tmp_path):
    host = await hosts()
    joined = await join(host.url + "/", None, "krj_t", "n1", tmp_path / "node")
    assert host.asked == [{"token": "krj_t", "name": "n1"}]
    assert (joined.credential, joined.cluster, joined.name, joined.url) == ("krn_x", "c1", "n1", host.url)
    path = tmp_path / "node" / "node.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load(tmp_path / "node") == joined


async def test_a_machine_joins_once(hosts, tmp_path):
    host = await hosts()
    await join(host.url, None, "t", "n1", tmp_path)
    with pytest.raises(Conflict, match="already"):
        await join(host.url, None, "t", "n1", tmp_path)
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, NotSignedIn), (409, Conflict), (410, Gone), (422, Invalid), (500, Unreachable)]
)
async def test_a_refusal_keeps_the_hosts_words_and_stores_nothing(hosts, tmp_path, status, kind):
    host = await hosts(status=status, body={"detail": "the name n1 is in use"})
    with pytest.raises(kind, match="the name n1 is in use"):
        await join(host.url, None, "t", "n1", tmp_path)
    assert load(tmp_path) is None


async def test_something_else_than_a_host_is_told_as_such(hosts, tmp_path):
    host = await hosts(body="<html>", status=200)
    with pytest.raises(Unreachable, match="is this the host's address"):
        await join(host.url, None, "t", "n1", tmp_path)
    with pytest.raises(Unreachable):
        await join("http://127.0.0.1:1", None, "t", "n1", tmp_path)


@pytest.mark.parametrize("written", ["{}", "SHA256:{}"])
async def test_the_pinned_certificate_is_enough(hosts, tmp_path, certificate, written):
    context, fingerprint = certificate
    host = await hosts(context)
    joined = await join(host.url, written.format(fingerprint.upper()), "t", "n1", tmp_path)
    assert joined.fingerprint == fingerprint
    reader, writer = await open_stream(f"{host.url}/stream/t", credential="krn_x", fingerprint=joined.fingerprint)
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_another_certificate_than_the_pinned_one_gets_neither_token_nor_credential(hosts, tmp_path, certificate):
    host = await hosts(certificate[0])
    with pytest.raises(Unreachable, match="another certificate"):
        await join(host.url, "00" * 32, "t", "n1", tmp_path)
    with pytest.raises(Unreachable, match="another certificate"):
        await open_stream(f"{host.url}/stream/t", credential="krn_x", fingerprint="00" * 32)
    with pytest.raises(Unreachable):
        await join(host.url, None, "t", "n1", tmp_path)
    assert host.asked == []


async def test_a_fingerprint_that_is_none_is_refused(tmp_path):
    with pytest.raises(Invalid, match="fingerprint"):
        await join("https://127.0.0.1:1", "zz", "t", "n1", tmp_path)


def test_an_unusable_file_names_itself(tmp_path):
    (tmp_path / "node.json").write_text(json.dumps({"url": "x"}))
    with pytest.raises(ConfigError, match=r"node\.json"):
        load(tmp_path)


def test_a_readable_file_is_made_private(tmp_path):
    path = tmp_path / "node.json"
    path.write_text(json.dumps({"url": "u", "credential": "c", "name": "n", "cluster": "k"}))
    path.chmod(0o644)
    assert load(tmp_path).credential == "c"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
