"""What the all-in-one lab does by itself: its own machine becomes its first node."""

import re

from kohakuriver.domain.access import Actor, How, Role
from kohakuriver.domain.targets import parse_node_name
from kohakuriver.errors import Invalid, NotAllowed, NotSignedIn
from kohakuriver.host import accounts, enrol
from kohakuriver.host.host import Host
from kohakuriver.host.users import ensure_admin
from kohakuriver.wire.api import NewNodeToken

FALLBACK = "lab"


def node_name(hostname: str) -> str:
    """The machine's name as a node may be called."""
    name = re.sub(r"[^a-z0-9.-]+", "-", hostname.lower()).strip("-.")
    try:
        return parse_node_name(name)
    except Invalid:
        return FALLBACK


async def is_enrolled(host: Host, credential: str) -> bool:
    """Whether this credential is a live node's here; not so after the host's data was removed, or the node revoked."""
    try:
        await enrol.node_by_credential(host, f"Bearer {credential}", "lab")
    except (NotSignedIn, NotAllowed):
        return False
    return True


async def join_token(host: Host, wanted: str) -> tuple[str, str]:
    """A free name, as near to the wanted one as can be, and a token to join with."""
    name, number = wanted, 1
    while host.roster.named(name) is not None:
        number += 1
        name = f"{wanted}-{number}"
    person = await ensure_admin(host, accounts.own_name())
    actor = Actor(id=person.id, name=person.name, role=Role.ADMIN, how=How.LOCAL, fresh=True)
    made = await enrol.make_token(host, actor, NewNodeToken(name=name))
    return name, made.token
