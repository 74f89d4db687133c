"""What operations that came to nothing left goes: on the builder, and of the host's own contents."""

import logging

from kohakuriver.errors import KohakuRiverError
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.wire.environments import Done, Sweep
from kohakuriver.wire.link import WireVersion

log = logging.getLogger(__name__)

#: nobody publishes meanwhile
SWEEP_SECONDS = 600.0
#: versions in one question, which has a size of its own; what was interrupted is of the newest
MOST_SWEPT = 500


async def sweep_builder(host: Host, member: Member) -> None:
    """Has the builder tidy up, unless an operation is under way that it still works at. Raises what it says."""
    parts = host.environments
    parts.unswept.add(member.id)
    async with parts.contents.quiet() as quiet:
        if quiet:
            known = [
                WireVersion(environment=one.environment, number=one.number, digest=one.digest)
                for one in sorted(parts.catalog.all(), key=lambda one: one.created)[-MOST_SWEPT:]
            ]
            await parts.asker.ask(member.id, Sweep(versions=known), Done, limit=SWEEP_SECONDS)
            parts.unswept.discard(member.id)


async def sweep_after(host: Host, member: Member) -> None:
    """After an operation that failed: its container is as before. What cannot be now, is done after the next, or when
    the builder connects.
    """
    try:
        await sweep_builder(host, member)
        await host.environments.contents.sweep(host.environments.catalog.blobs)
    except KohakuRiverError as error:
        log.info("the builder is swept later: %s", error, extra={"action": "sweep", "node": member.name})
