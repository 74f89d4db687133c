"""A registry over HTTP: manifests, tags and the catalogue (OCI distribution specification).

Knows no environment.
"""

import asyncio
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import aiohttp
from yarl import URL

from kohakuriver.errors import NotFound, PluginError, Unreachable
from kohakuriver_registry.credentials import Credentials
from kohakuriver_registry.guard import GuardedResolver, check_host

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
EMPTY_INDEX = "application/vnd.oci.image.index.v1+json"
#: the specification lets registries refuse larger manifests
MOST_ANSWER = 4 << 20
MOST_REDIRECTS = 5
MOST_PAGES = 1000
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Answer:
    """What came back, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """Raises PluginError for what is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise PluginError("the registry answers with something else than JSON") from None


class Registry:
    """One registry, by its host and port."""

    def __init__(self, host: str, *, plain: bool | None, patience: float, tls: ssl.SSLContext | None) -> None:
        """`plain`: without TLS; None: if it is on loopback."""
        scheme = "http" if plain or (plain is None and _is_loopback(host)) else "https"
        self._root = URL(f"{scheme}://{host}")
        self._patience = patience
        own = str(self._root.host)
        connector = aiohttp.TCPConnector(resolver=GuardedResolver(own), ssl=tls or True, limit=8)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience),
        )
        self._tokens: dict[str, str] = {}

    async def close(self) -> None:
        await self._session.close()

    async def check(self, who: Credentials | None) -> None:
        """Raises unless it answers and lets us in."""
        await self._send("GET", "/v2/", who)

    async def manifest(self, name: str, reference: str, who: Credentials | None) -> tuple[str, dict[str, Any]]:
        """The digest of a manifest and what it says. Raises NotFound, PluginError when it is not what it should be."""
        answer = await self._send("GET", f"/v2/{name}/manifests/{reference}", who, accept=", ".join(MANIFESTS))
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise PluginError(f"the registry gives a manifest {digest} for {reference}: it is damaged or was swapped")
        manifest = answer.json()
        if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
            raise NotFound(f"{name}:{reference} is no image")
        return digest, manifest

    async def delete(self, name: str, digest: str, who: Credentials | None) -> None:
        """Idempotent. Raises PluginError where the registry allows no deleting."""
        try:
            await self._send("DELETE", f"/v2/{name}/manifests/{digest}", who)
        except NotFound:
            return

    async def empty(self, name: str, tag: str, who: Credentials | None) -> str:
        """Has a tag lead to an index of nothing, the only way to take it from its manifest; the index's digest."""
        body = json.dumps({"schemaVersion": 2, "mediaType": EMPTY_INDEX, "manifests": []}).encode()
        await self._send("PUT", f"/v2/{name}/manifests/{tag}", who, body=body, kind=EMPTY_INDEX)
        return "sha256:" + hashlib.sha256(body).hexdigest()

    async def tags(self, name: str, who: Credentials | None) -> Sequence[str]:
        """None for a repository that is not there."""
        try:
            return [str(tag) async for tag in self._pages(f"/v2/{name}/tags/list", "tags", who)]
        except NotFound:
            return []

    async def repositories(self, who: Credentials | None) -> Sequence[str]:
        return [str(name) async for name in self._pages("/v2/_catalog", "repositories", who)]

    async def _pages(self, path: str, field: str, who: Credentials | None) -> AsyncIterator[Any]:
        target = f"{path}?n=1000"
        for _ in range(MOST_PAGES):
            answer = await self._send("GET", target, who)
            found = answer.json()
            for one in (found.get(field) if isinstance(found, dict) else None) or ():
                yield one
            link = re.match(r'\s*<([^>]+)>\s*;\s*rel="?next', answer.headers.get("Link", ""))
            if link is None:
                return
            following = self._root.join(URL(link[1]))
            if following.origin() != self._root.origin():
                raise PluginError(f"the registry sends us to {following.host} for the rest of a list")
            target = following.path_qs
        raise PluginError(f"the registry's list has more than {MOST_PAGES} pages")

    async def _send(
        self,
        method: str,
        target: str,
        who: Credentials | None,
        *,
        accept: str = "application/json",
        body: bytes | None = None,
        kind: str = "",
    ) -> Answer:
        url = self._root.join(URL(target))
        headers = {"Accept": accept, **({"Content-Type": kind} if kind else {})}
        scope = f"{method} {url.path}"
        if scope in self._tokens:
            headers["Authorization"] = self._tokens[scope]
        answer = await self._follow(method, url, headers, body)
        if answer.status == 401:
            self._tokens.pop(scope, None)
            headers["Authorization"] = await self._authorize(answer.headers.get("WWW-Authenticate", ""), who)
            answer = await self._follow(method, url, headers, body)
            if answer.status < 400:
                self._tokens[scope] = headers["Authorization"]
        _check(answer, method, url)
        return answer

    async def _authorize(self, challenge: str, who: Credentials | None) -> str:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and who is not None:
            return who.basic
        if scheme.lower() != "bearer":
            raise PluginError(f"{self._root.host} wants a sign-in: set username and password_file, or `docker login`")
        fields = dict(CHALLENGE.findall(rest))
        realm = URL(fields.pop("realm", ""))
        if realm.scheme not in {"http", "https"} or (self._root.scheme, realm.scheme) == ("https", "http"):
            raise PluginError(f"the registry asks us to sign in at {realm}: that is no safe address")
        wanted = {name: fields[name] for name in ("service", "scope") if name in fields}
        answer = await self._follow(
            "GET", realm.update_query(wanted), {"Authorization": who.basic} if who else {}, None
        )
        _check(answer, "GET", realm)
        found = answer.json()
        token = found.get("token") or found.get("access_token") if isinstance(found, dict) else None
        if not token:
            raise PluginError(f"{realm.host} gives no token")
        return f"Bearer {token}"

    async def _follow(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> Answer:
        sent = dict(headers)
        for _ in range(MOST_REDIRECTS):
            check_host(str(url.host), str(self._root.host))
            async with self._asked(method, url, sent, body) as response:
                location = response.headers.get("Location", "")
                if response.status not in {301, 302, 303, 307, 308} or method != "GET" or not location:
                    return Answer(response.status, response.headers, await _read(response))
                following = url.join(URL(location))
            if following.scheme not in {"http", "https"} or (url.scheme, following.scheme) == ("https", "http"):
                where = f"{following.scheme}://{following.host or ''}"  # the rest may let anybody in
                raise PluginError(f"the registry sends us to {where}: that is no safe address")
            if following.origin() != url.origin():
                sent.pop("Authorization", None)
            url = following
        raise PluginError(f"the registry sends us around more than {MOST_REDIRECTS} times")

    @asynccontextmanager
    async def _asked(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with (
                asyncio.timeout(self._patience * 4),
                self._session.request(method, url, headers=headers, data=body, allow_redirects=False) as response,
            ):
                yield response
        except TimeoutError:
            raise Unreachable(f"registry {url.host} does not answer for {self._patience:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"registry {url.host} cannot be reached: {error}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MOST_ANSWER:
            raise PluginError(f"the registry's answer has more than {MOST_ANSWER} bytes")
    return bytes(body)


def _check(answer: Answer, method: str, url: URL) -> None:
    if answer.status < 300:
        return
    words = f"registry {url.host}"
    if answer.status == 404:
        raise NotFound(f"{words} has no {url.path}")
    if answer.status in {401, 403}:
        raise PluginError(
            f"{words} does not let us in ({answer.status}): look at username, password_file, `docker login`"
        )
    if answer.status == 405 and method == "DELETE":
        raise PluginError(f"{words} allows no deleting: switch it on there (storage.delete.enabled)")
    if answer.status == 429 or answer.status > 500:  # 500 is also what a damaged manifest gives
        raise Unreachable(f"{words} cannot answer now ({answer.status})")
    raise PluginError(
        f"{words} answers {answer.status} to {method} {url.path}: {answer.body[:200].decode(errors='replace')}"
    )


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
