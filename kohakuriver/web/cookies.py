"""The session cookie: its name, and what browsers are told to do with it."""

from aiohttp import web

from kohakuriver.host.settings import HostSettings

PLAIN = "kr_session"
#: browsers take a `__Host-` cookie only over TLS, for this host alone and for every path (RFC 6265bis, 4.1.3.2)
SECURE = "__Host-kr_session"


def cookie_name(settings: HostSettings) -> str:
    """The name that this host gives its cookie."""
    return SECURE if is_secure(settings) else PLAIN


def is_secure(settings: HostSettings) -> bool:
    """Whether browsers reach this host over TLS."""
    return settings.public_url.lower().startswith("https:")


def set_cookie(response: web.StreamResponse, settings: HostSettings, text: str) -> None:
    """Hands the session to the browser; scripts never see it."""
    response.set_cookie(
        cookie_name(settings),
        text,
        path="/",
        max_age=settings.session_most,
        secure=is_secure(settings),
        httponly=True,
        samesite="Lax",
    )


def drop_cookie(response: web.StreamResponse, settings: HostSettings) -> None:
    """Tells the browser to forget it."""
    response.del_cookie(cookie_name(settings), path="/", secure=is_secure(settings), httponly=True, samesite="Lax")
