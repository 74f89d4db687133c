"""Errors as HTTP answers: the one table of statuses, and the RFC 9457 body. Nothing below `web` knows a status."""

from http import HTTPStatus
from typing import ClassVar

from aiohttp import web

from kohakuriver import errors
from kohakuriver.wire import api, codec

PROBLEM = "application/problem+json"


class UnsupportedType(errors.KohakuRiverError):
    """the body must be application/json in UTF-8"""

    code: ClassVar[str] = "unsupported_type"


class TooSlow(errors.KohakuRiverError):
    """the request took too long to arrive"""

    code: ClassVar[str] = "too_slow"


class ForeignOrigin(errors.NotAllowed):
    """this request comes from another site"""

    code: ClassVar[str] = "foreign_origin"


class UnknownHost(errors.NotAllowed):
    """the Host header names a host that this service does not answer for"""

    code: ClassVar[str] = "unknown_host"


#: the nearest class of an error's ancestry decides
STATUSES: dict[type[errors.KohakuRiverError], int] = {
    errors.KohakuRiverError: 500,
    errors.Malformed: 400,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    TooSlow: 408,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    UnsupportedType: 415,
    errors.Invalid: 422,
    errors.TooMany: 429,
    errors.NotReady: 503,
    errors.Unreachable: 503,
    errors.PluginError: 502,
    errors.BackendAway: 503,
    errors.StoreError: 503,
    errors.StorageFull: 507,
}

#: what the router itself refuses
ROUTER_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def status_of(error: errors.KohakuRiverError) -> int:
    """The HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def from_error(error: errors.KohakuRiverError, request_id: str) -> web.Response:
    """The answer to a request that failed in a way that we know."""
    status = status_of(error)
    headers = {}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(error.retry_after)
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="kohakuriver"'
    elif status == 503:
        headers["Retry-After"] = "2"
    problem = api.Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=error.code,
        detail=error.message,
        field=error.field,
        value=error.value,
        limit=error.limit,
        request_id=request_id,
    )
    return _response(problem, headers)


def from_router(error: web.HTTPException, request_id: str) -> web.Response:
    """The answer to a request that no route took."""
    status = error.status
    headers = {}
    detail = {404: "there is nothing at this path", 413: f"at most {api.MOST_BODY} bytes"}.get(status, error.reason)
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        detail = f"this path takes {headers['Allow']}"
    problem = api.Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=ROUTER_CODES.get(status, "malformed"),
        detail=detail,
        request_id=request_id,
    )
    return _response(problem, headers)


def from_bug(request_id: str) -> web.Response:
    """The answer when we do not know what happened; the log has the rest under the same request id."""
    problem = api.Problem(
        title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
        status=500,
        code="internal",
        detail="something failed here; the log of the host has more under this request id",
        request_id=request_id,
    )
    return _response(problem, {})


def _response(problem: api.Problem, headers: dict[str, str]) -> web.Response:
    return web.Response(body=codec.encode(problem), status=problem.status, content_type=PROBLEM, headers=headers)
