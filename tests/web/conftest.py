"""A served host, and a client that speaks to it as different people."""

from dataclasses import dataclass, field

import aiohttp
import pytest

from kohakuriver.domain.access import Role
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.clock import FakeClock
from kohakuriver.testing.hosts import add_account, opened_host, served, token_of


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def host(tmp_path, clock):
    async with opened_host(tmp_path, clock=clock) as host:
        visitors(host).strangers.limit(rate=0, burst=1)
        yield host


@dataclass
class Answer:
    status: int
    headers: object
    body: bytes
    json: object


@dataclass
class Web:
    """Requests to the host; `as_` chooses whose token goes along."""

    url: str
    http: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    async def ask(self, method, path, *, as_=None, headers=None, **more):
        headers = dict(headers or {})
        if as_ is not None:
            headers["Authorization"] = f"Bearer {self.tokens[as_]}"
        async with self.http.request(
            method, self.url + path, headers=headers, allow_redirects=False, **more
        ) as response:
            body = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            parsed = await response.json(content_type=None) if is_json and body and b"\n{" not in body else None
            return Answer(response.status, response.headers, body, parsed)

    async def get(self, path, **more):
        return await self.ask("GET", path, **more)

    async def post(self, path, json=None, **more):
        return await self.ask("POST", path, json=json, **more)


@pytest.fixture
async def web(host):
    async with served(host) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        web = Web(url, http)
        for role in Role:
            actor = await add_account(host, role.word, role)
            web.tokens[role.word] = await token_of(host, actor)
        yield web
