"""Around every request: its id, the Host check, errors as problems, and the headers of every answer."""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from kohakuriver.errors import KohakuRiverError
from kohakuriver.web import problems
from kohakuriver.web.guard import Guard

log = logging.getLogger(__name__)

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_middleware(guard: Guard) -> Middleware:
    """The one middleware."""

    @web.middleware
    async def answer(request: web.Request, handler: Next) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = _request_id(request)
        try:
            guard.check_host(request.headers.get("Host"))
            return await handler(request)
        except KohakuRiverError as error:
            response = problems.from_error(error, request_id)
            if response.status >= 500:
                log.warning(
                    "request failed: %s",
                    error,
                    extra={"action": "request", "request_id": request_id, "code": error.code},
                )
            return response
        except web.HTTPException as error:
            return problems.from_router(error, request_id)
        except (asyncio.CancelledError, ConnectionError):
            raise
        # a bug: the log is told, and the client gets the request id to quote
        except Exception:
            log.exception(
                "request failed unexpectedly",
                extra={"action": "request", "request_id": request_id, "method": request.method, "path": request.path},
            )
            return problems.from_bug(request_id)

    return answer


def make_stamp(guard: Guard) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that puts our headers on every answer; what a handler set itself stays."""

    async def stamp(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        for name, value in guard.headers.items():
            headers.setdefault(name, value)
        # aiohttp has named itself and its version by now
        headers["Server"] = guard.headers["Server"]
        request_id = request.get(REQUEST_ID)
        if request_id is not None:
            headers["X-Request-ID"] = request_id

    return stamp


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-ID")
    return given if given is not None and _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
