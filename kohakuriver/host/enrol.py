"""How a machine becomes a node: a one-use token bound to a name, exchanged once for the node's own credential.

Only hashes are stored. What a node may do with its credential is the link's and the roster's.
"""

import shlex
from datetime import timedelta

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.targets import parse_node_name
from kohakuriver.errors import Conflict, Gone, MovedOn, NotAllowed, NotSignedIn
from kohakuriver.host import cause, credentials, records
from kohakuriver.host.host import Host
from kohakuriver.host.once import write_once
from kohakuriver.host.roster import Member
from kohakuriver.host.visitors import visitors
from kohakuriver.store.credentials import Once, end_once, new_once, once_by_id, use_once
from kohakuriver.store.models import NodeRow
from kohakuriver.store.nodes import ACTIVE, node_with_credential
from kohakuriver.store.write import ConstraintFailed, insert
from kohakuriver.wire import api

KIND = "join"
UNUSED = "this join token was used already, ran out, or is for another name; make one: `kohakuriver node token NAME`"


async def make_token(host: Host, actor: Actor, request: api.NewNodeToken, *, key: str | None = None) -> api.NodeToken:
    """A token with which one machine may join under this name, and the command to type there.

    Ends older tokens for the name. Raises Conflict while a node has the name.
    """
    authorize(actor, Action.NODE_JOIN_TOKEN)
    name = parse_node_name(request.name.lower(), field="name")
    _refuse_live(host, name)
    now = host.clock.now()
    token, expires = credentials.make(credentials.JOIN), now + timedelta(seconds=request.expires)
    once = Once(
        id=token.id,
        kind=KIND,
        subject=name,
        hash=token.digest,
        created_by=actor.id,
        created=now,
        expires=expires,
    )
    event = records.event(host.ids.next(), now, "node_token_made", cause.by(actor), detail={"name": name})
    await write_once(host, actor, key, [end_once(KIND, name, now), new_once(once), *records.events([event])])
    return api.NodeToken(name=name, token=str(token), command=_command(host, name, str(token)), expires=expires)


async def join(host: Host, request: api.Join, address: str) -> api.Joined:
    """Exchanges the token for a node and its credential, which is shown this once.

    Raises Gone for a token that does not count, Conflict for a name that a node has.
    """
    attempts, tick = visitors(host).attempts, host.clock.monotonic()
    attempts.check(KIND, address, tick)
    name, shown = request.name.lower(), credentials.parse(request.token.strip(), credentials.JOIN)
    once = None if shown is None else await once_by_id(host.store.reader, shown.id)
    now = host.clock.now()
    good = shown is not None and once is not None and once.kind == KIND and shown.matches(once.hash)
    if once is None or not good or once.subject != name or once.used is not None or once.expires <= now:
        attempts.failed(KIND, address, tick)
        raise Gone(UNUSED, field="token")
    _refuse_live(host, name)
    credential, member = credentials.make(credentials.NODE), Member(id=host.ids.next(), name=name, created=now)
    node = insert(
        NodeRow,
        id=member.id,
        name=name,
        state=ACTIVE,
        credential=credential.id,
        credential_hash=credential.digest,
        created=now,
    )
    by = cause.Cause(actor=f"node {name}")
    event = records.event(host.ids.next(), now, "node_joined", by, node=member.id, detail={"address": address})

    def then() -> None:
        host.roster.add(member)
        host.changes.publish("node", member.id)

    try:
        await host.commits.write([use_once(once, now), node, *records.events([event])], then)
    except MovedOn:
        raise Gone(UNUSED, field="token") from None
    except ConstraintFailed:
        raise _taken(name) from None
    return api.Joined(node=str(member.id), name=name, credential=str(credential), cluster=host.store.cluster)


async def node_by_credential(host: Host, authorization: str | None, address: str) -> int:
    """The id of the node that shows this header. Raises NotSignedIn, or NotAllowed for a revoked node.

    A credential is looked up once; whether the node was revoked is asked every time.
    """
    known, text = visitors(host), credentials.bearer(authorization)
    key = credentials.fingerprint(text or "")
    node = known.nodes.get(key)
    if node is None:
        known.strangers.take(address, host.clock.monotonic())
        node = await _look_up(host, text)
        if node is None:
            raise NotSignedIn("this needs the credential of a node; join with `kohakuriver node join`")
        known.nodes[key] = node
    member = host.roster.get(node)
    if member is None or member.revoked:
        known.nodes.pop(key, None)
        raise NotAllowed("this node was revoked; join it again with a new token")
    return node


async def _look_up(host: Host, text: str | None) -> int | None:
    shown = credentials.parse(text or "", credentials.NODE)
    if shown is None:
        return None
    node = await node_with_credential(host.store.reader, shown.id)
    return node.id if node is not None and shown.matches(node.credential_hash) else None


def _refuse_live(host: Host, name: str) -> None:
    if host.roster.named(name) is not None:
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(
        f"a node is called {name} already; choose another name, or first `kohakuriver node revoke {name}`",
        field="name",
        value=name,
    )


def _command(host: Host, name: str, token: str) -> str:
    """One line for the new machine, which joins and then serves there. The token goes by the environment, for everybody
    on a machine sees arguments.
    """
    words = ["kohakuriver", "node", "join", "--url", host.settings.public_url]
    if host.settings.fingerprint is not None:
        words += ["--fingerprint", f"sha256:{host.settings.fingerprint.removeprefix('sha256:')}"]
    return f"KOHAKURIVER_JOIN_TOKEN={token} {shlex.join([*words, name])} && kohakuriver serve --role runner"
