"""What is done when a node connects: leftovers of the builder swept, what could not be done before tried again."""

import logging

from kohakuriver.errors import KohakuRiverError
from kohakuriver.host.environments.base import begin_base
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.environments.orders import settle_all
from kohakuriver.host.environments.removal import finish_removals
from kohakuriver.host.environments.sweep import sweep_builder
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member

log = logging.getLogger(__name__)


async def builder_connected(host: Host, member: Member) -> None:
    """Called with every new session of a node; does something for the builder's. Fails for nobody."""
    parts = host.environments
    try:
        if parts.builder() is not member:
            return
        await sweep_builder(host, member)
        await settle_all(host)
        await finish_removals(host)
        await parts.contents.sweep(parts.catalog.blobs)
    except NoBuilder:
        return
    except KohakuRiverError as error:
        log.warning("the builder was not swept: %s", error, extra={"action": "sweep", "node": member.name})
    begin_base(host)
