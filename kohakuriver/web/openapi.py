"""The OpenAPI 3.1 document, made from the route table and the structs. Knows no handler."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from kohakuriver import __version__
from kohakuriver.domain.access import RULES, Action, Who
from kohakuriver.web.call import Route
from kohakuriver.web.cookies import PLAIN
from kohakuriver.web.problems import PROBLEM
from kohakuriver.web.reading import LONGEST_PART, needs_body
from kohakuriver.wire import api

JSON = "application/json"
BYTES = "application/octet-stream"
REF = "#/components/schemas/{name}"
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"session": []}]

Document = dict[str, Any]


def make_document(routes: Iterable[Route]) -> Document:
    """The whole document. Sockets stand under `x-sockets`, for OpenAPI has no words for them."""
    rows = tuple(routes)
    structs = [kind for route in rows for kind in (route.body, route.answer) if _is_struct(kind)]
    schemas = msgspec.json.schema_components([*dict.fromkeys(structs), api.Problem], ref_template=REF)
    refs = dict(zip([*dict.fromkeys(structs), api.Problem], schemas[0], strict=True))
    paths: dict[str, Document] = {}
    for route in rows:
        if not route.socket:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "KohakuRiver", "version": __version__, "description": "Errors are RFC 9457 problems."},
        "paths": paths,
        "components": {"schemas": schemas[1], "securitySchemes": _schemes()},
        "x-sockets": [_socket(route) for route in rows if route.socket],
    }


def problem_statuses(route: Route) -> frozenset[int]:
    """The statuses of problems that a route may answer. 404 and 405 of the router itself are no route's."""
    statuses = {400, 403, 422, 429, 500, 503}
    if _who(route) is not Who.ANYONE or route.query is not None:
        statuses.add(401)
    if route.parts or msgspec.structs.fields(route.query) or route.body is not None:
        statuses.add(404)
    if route.method != "GET":
        statuses |= {409, 410, 507}
    if route.body is not None or route.upload:
        statuses |= {408, 413, 415}
    if route.policy in {Action.ENVIRONMENT_USE, Action.ENVIRONMENT_CHANGE}:
        # a node is asked, and it may answer nonsense
        statuses |= {409, 502}
    return frozenset(statuses)


def _operation(route: Route, refs: Mapping[Any, Document]) -> Document:
    operation: Document = {
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": [*_parts(route), *_query(route), *_headers(route)],
        "responses": {str(route.status): _success(route, refs), **_problems(route, refs)},
        "security": _security(route),
        "x-policy": route.policy.value if route.policy else "",
    }
    if route.body is not None:
        required = needs_body(route.body)
        operation["requestBody"] = {"required": required, "content": {JSON: {"schema": refs[route.body]}}}
    if route.upload:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {BYTES: binary}}
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if _who(route) is Who.ANYONE:
        return []
    # an empty requirement stands for "or none": from this machine
    return [*SECURITY, {}] if route.loopback else SECURITY


def _success(route: Route, refs: Mapping[Any, Document]) -> Document:
    answer: Document = {"description": HTTPStatus(route.status).phrase}
    if route.answer is None:
        return answer
    answer["content"] = {
        media: {"schema": _schema(route.answer, refs) if media == JSON else {"type": "string"}} for media in route.media
    }
    return answer


def _schema(kind: Any, refs: Mapping[Any, Document]) -> Document:
    return refs.get(kind, {"type": "object"})


def _problems(route: Route, refs: Mapping[Any, Document]) -> Document:
    content = {PROBLEM: {"schema": refs[api.Problem]}}
    answers: Document = {
        str(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted(problem_statuses(route))
    }
    if route.answer is api.HealthView:
        answers["503"] = {"description": "Not ready.", "content": {JSON: {"schema": refs[api.HealthView]}, **content}}
    return answers


def _parts(route: Route) -> list[Document]:
    schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_PART}
    streams = {"type": "string", "enum": ["stdout", "stderr"]}
    return [
        {"name": name, "in": "path", "required": True, "schema": streams if name == "stream" else schema}
        for name in route.parts
    ]


def _query(route: Route) -> list[Document]:
    if not msgspec.structs.fields(route.query):
        return []
    (_,), schemas = msgspec.json.schema_components([route.query])
    properties: Document = next(iter(schemas.values()))["properties"]
    needed = {field.encode_name for field in msgspec.structs.fields(route.query) if field.required}
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: Document) -> Document:
    """A query has no null: a parameter that may be absent is just not required."""
    kept = {key: value for key, value in schema.items() if key != "default" or value is not None}
    if "anyOf" in kept:
        others = [one for one in kept.pop("anyOf") if one != {"type": "null"}]
        kept |= others[0] if len(others) == 1 else {"anyOf": others}
    if kept.get("type") == "boolean":
        # `?verbose`, `?verbose=1` and `?verbose=true` are the same
        return {"anyOf": [{"type": "boolean"}, {"enum": ["", 0, 1]}], "default": kept.get("default", False)}
    return kept


def _headers(route: Route) -> list[Document]:
    if not route.key:
        return []
    schema = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
    text = {
        "replays": "The same key with the same body gets the same answer and stores nothing again.",
        "once": "The same key again is a conflict, for the answer holds a secret that is shown once.",
    }[route.key]
    return [{"name": "Idempotency-Key", "in": "header", "description": text, "schema": schema}]


def _schemes() -> Document:
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, `kru_…`; of nodes `krn_…`."},
        "session": {"type": "apiKey", "in": "cookie", "name": PLAIN, "description": "`__Host-kr_session` over TLS."},
    }


def _socket(route: Route) -> Document:
    policy = route.policy.value if route.policy else ""
    return {"path": route.path, "method": route.method, "summary": route.summary, "x-policy": policy}


def _who(route: Route) -> Who:
    policy: Action = route.policy or Action.SETTINGS
    return RULES[policy].who


def _is_struct(kind: Any) -> bool:
    return kind is not None and kind not in {dict, str, bytes}
