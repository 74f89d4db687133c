"""What a browser may make somebody do here: the Host allow-list, the exact Origin, and the headers of every answer.

No tokens in forms: Origin and Sec-Fetch-Site come from the browser itself and cannot be forged by a page
(https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site).
"""

import ipaddress
import socket
from functools import cache, lru_cache
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDict

from kohakuriver.host.settings import HostSettings
from kohakuriver.web.problems import ForeignOrigin, UnknownHost

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
    "Cache-Control": "no-store",
    "Server": "kohakuriver",
}
TLS_HEADERS = {"Strict-Transport-Security": "max-age=31536000"}


class Guard:
    """Made once from the settings."""

    def __init__(self, settings: HostSettings) -> None:
        public = urlsplit(settings.public_url)
        self.origin = f"{public.scheme}://{public.netloc}".lower()
        self.secure = public.scheme == "https"
        self.headers = CIMultiDict(HEADERS | (TLS_HEADERS if self.secure else {}))
        self._names = frozenset({(public.hostname or "").lower(), "localhost", *_own_names()})

    def check_host(self, host: str | None) -> None:
        """Raises UnknownHost for a name that is not ours: a page of another site could have made it point here.

        Addresses are always taken, for no page can be at a foreign address and ours at once.
        """
        if host is None or not _known(host, self._names):
            raise UnknownHost(
                f"this service does not answer for {host or 'no host'!r}; use {self.origin}", field="Host", value=host
            )

    def check_origin(self, headers: "CIMultiDict[str]", *, scheme: str, cookie: bool) -> None:
        """Raises ForeignOrigin unless an unsafe request was made by our own pages or by no browser at all.

        A request that is signed in by a cookie must prove it; any other must only not prove the opposite.
        """
        origin = headers.get("Origin")
        if origin is not None:
            if origin.lower() in {self.origin, f"{scheme}://{headers.get('Host', '')}".lower()}:
                return
            raise ForeignOrigin(f"this request comes from another site; only {self.origin} may make it", value=origin)
        site = headers.get("Sec-Fetch-Site")
        if site == "same-origin" or (site is None and not cookie):
            return
        raise ForeignOrigin(
            f"a request with a cookie needs the header `Origin: {self.origin}`; programs use a token instead",
            value=site,
        )


def is_local(request: web.Request) -> bool:
    """Whether somebody on this machine asks, and no proxy for somebody else."""
    forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"))
    return request.remote in {"127.0.0.1", "::1"} and not forwarded


@cache
def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({name, name.partition(".")[0]})


@lru_cache(maxsize=256)
def _known(host: str, names: frozenset[str]) -> bool:
    name = _name(host.lower())
    return name in names or _is_address(name)


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
