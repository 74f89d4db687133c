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

#: set once the headers of an answer are on their way
ANSWERED: web.RequestKey[bool] = web.RequestKey("answered", bool)
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
            _refuse_second_answer(request, error)
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
        except Exception as error:
            log.exception(
                "request failed unexpectedly",
                extra={"action": "request", "request_id": request_id, "method": request.method, "path": request.path},
            )
            _refuse_second_answer(request, error)
            return problems.from_bug(request_id)

    return answer


def make_stamp(guard: Guard) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that puts our headers on every answer; what a handler set itself stays."""

    async def stamp(request: web.Request, response: web.StreamResponse) -> None:
        request[ANSWERED] = True
        headers = response.headers
        for name, value in guard.headers.items():
            headers.setdefault(name, value)
        # aiohttp has named itself and its version by now
        headers["Server"] = guard.headers["Server"]
        request_id = request.get(REQUEST_ID)
        if request_id is not None:
            headers["X-Request-ID"] = request_id

    return stamp


def _refuse_second_answer(request: web.Request, error: Exception) -> None:
    """In the middle of an answer another one would be taken for a part of it, and waited on for ever: it breaks off."""
    if ANSWERED in request:
        raise ConnectionResetError(f"the answer broke off: {error!r}") from error


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-ID")
    return given if given is not None and _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
