"""Answers that say no, as errors of ours. Knows RFC 9457 bodies and HTTP status codes, no connection."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kohakuriver import errors
from kohakuriver.errors import KohakuRiverError, TooMany

LONGEST_TEXT = 2000
BY_STATUS: Mapping[int, type[KohakuRiverError]] = {
    400: errors.Malformed,
    401: errors.NotSignedIn,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    413: errors.TooLarge,
    422: errors.Invalid,
    502: errors.Unreachable,
    503: errors.NotReady,
    504: errors.Unreachable,
    507: errors.StorageFull,
}


def problem_error(status: int, kind: str, body: bytes, retry_after: str | None) -> KohakuRiverError:
    """The error that the answer tells of; one in our own words where it is not a problem document."""
    problem = _read(body) if kind.partition(";")[0].strip().endswith("json") else {}
    known = by_code().get(str(problem.get("code")))
    detail = _text(problem, "detail") or _text(problem, "title")
    if known is TooMany or status == 429:
        return TooMany(detail, retry_after=int(retry_after) if retry_after and retry_after.isdecimal() else 1)
    error = (known or BY_STATUS.get(status, KohakuRiverError))(
        detail or (None if status in BY_STATUS else f"the host answered with HTTP status {status}"),
        field=_text(problem, "field"),
        value=_text(problem, "value"),
        limit=_text(problem, "limit"),
    )
    _add_the_rest(error, problem)
    return error


def failure_error(failure: Mapping[str, Any]) -> KohakuRiverError:
    """The error with which an operation or a terminal ended, as its last words tell of it."""
    said = dict(failure)
    kind = by_code().get(str(said.get("code")), KohakuRiverError)
    detail = _text(said, "detail") or _text(said, "message")
    return kind(detail, field=_text(said, "field"), value=_text(said, "value"), limit=_text(said, "limit"))


def by_code() -> dict[str, type[KohakuRiverError]]:
    """The error classes by their stable code; of several with one code the most general."""
    found: dict[str, type[KohakuRiverError]] = {}
    for each in _tree(KohakuRiverError):
        found.setdefault(each.code, each)
    return found


def _tree(root: type[KohakuRiverError]) -> Iterator[type[KohakuRiverError]]:
    yield root
    for each in root.__subclasses__():
        yield from _tree(each)


def _read(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _text(problem: dict[str, Any], key: str) -> str | None:
    value = problem.get(key)
    return None if value is None or value == "" else str(value)[:LONGEST_TEXT]


def _add_the_rest(error: KohakuRiverError, problem: dict[str, Any]) -> None:
    """Several faults in one request are told together, as notes of the error."""
    several = problem.get("errors")
    for each in several if isinstance(several, list) else ():
        if isinstance(each, dict) and (detail := _text(each, "detail")):
            where = _text(each, "field")
            error.add_note(f"{where}: {detail}" if where else detail)
