"""The way in: for each row of the route table, who may pass, and the request read before the handler sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web
from multidict import CIMultiDict

from kohakuriver.domain.access import RULES, Action, Actor, Granting, Owned, Role, Scope, Who, authorize
from kohakuriver.errors import NotAllowed
from kohakuriver.host import accounts, enrol
from kohakuriver.host.callers import Caller
from kohakuriver.host.credentials import bearer
from kohakuriver.host.host import Host
from kohakuriver.host.visitors import visitors
from kohakuriver.web.call import Call, Route
from kohakuriver.web.cookies import cookie_name
from kohakuriver.web.guard import SAFE_METHODS, Guard, is_local
from kohakuriver.web.reading import check_parts, read_body, read_query
from kohakuriver.wire import codec

READ_ALONE = frozenset({Scope.READ})


def door(host: Host, guard: Guard, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a row. Raises ValueError for a row without a policy."""
    if route.policy is None:
        raise ValueError(f"{route.method} {route.path} declares no policy")

    async def enter(request: web.Request) -> web.StreamResponse:
        check_parts(request)
        address = request.remote or ""
        node, known = await _admit(host, guard, route, request)
        query = read_query(request.query, route.query)
        raw, body = (b"", None) if route.body is None else await read_body(request, route.body)
        call = Call(
            host=host, request=request, query=query, body=body, raw=raw, address=address, known=known, node=node
        )
        if not route.long or known is None:
            return _answer(await route.handler(call), route)
        with visitors(host).callers.answering(known, host.clock.now()):
            return _answer(await route.handler(call), route)

    return enter


async def _admit(host: Host, guard: Guard, route: Route, request: web.Request) -> tuple[int | None, Caller | None]:
    policy, address = route.policy, request.remote or ""
    assert policy is not None
    headers, unsafe = request.headers, request.method not in SAFE_METHODS
    who = RULES[policy].who
    if route.socket:
        # runners send no Origin; a page of another site may not even try
        guard.check_origin(CIMultiDict(headers), scheme=request.scheme, cookie=False)
    if who is Who.NODES:
        return await enrol.node_by_credential(host, headers.get("Authorization"), address), None
    if who is Who.ANYONE:
        if unsafe:
            guard.check_origin(CIMultiDict(headers), scheme=request.scheme, cookie=False)
            visitors(host).strangers.take(address, host.clock.monotonic())
        return None, None
    if route.loopback and is_local(request):
        return None, None
    cookie = request.cookies.get(cookie_name(host.settings)) if "Cookie" in headers else None
    token = bearer(headers.get("Authorization"))
    caller = await accounts.identify(host, token=token, cookie=cookie, address=address)
    if unsafe and token is None:
        guard.check_origin(CIMultiDict(headers), scheme=request.scheme, cookie=caller.cookie)
    visitors(host).known.take(caller.credential, host.clock.monotonic())
    authorize(caller.actor, policy, _stand_in(policy, caller.actor))
    if unsafe and caller.actor.scopes == READ_ALONE:
        raise NotAllowed("this token only reads")
    return None, replace(caller, actor=replace(caller.actor, address=address))


def _stand_in(policy: Action, actor: Actor) -> Owned | Granting | None:
    """A thing that the actor could hardly be refused, for what is asked of the actor alone; the use case asks again
    with the thing itself.
    """
    rule = RULES[policy]
    if policy is Action.USER_INVITE:
        return Granting(role=Role.VIEWER)
    if rule.foreign is None:
        return None
    return Owned(owner=-1 if rule.not_own else actor.id)


def _answer(answer: object, route: Route) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=204)
    return web.Response(body=codec.encode(answer), status=route.status, content_type="application/json")
