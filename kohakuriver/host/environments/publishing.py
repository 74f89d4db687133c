"""How a version comes to be: a number set aside, the builder asked, the answer judged, the version stored.

A death between any two lines leaves no version, or a whole one (contrib/notes/environments.md, "Publishing").
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kohakuriver.domain.environments import version_name
from kohakuriver.errors import KohakuRiverError, MovedOn, PluginError
from kohakuriver.hooks.packages import DIGEST
from kohakuriver.host import records
from kohakuriver.host.cause import Cause
from kohakuriver.host.environments.asks import LONG, Feed
from kohakuriver.host.environments.operations import Operation
from kohakuriver.host.environments.sweep import sweep_after
from kohakuriver.host.host import Host
from kohakuriver.host.roster import Member
from kohakuriver.store.environments import StoredVersion, add_version, set_aside
from kohakuriver.store.write import ConstraintFailed, WrongCount
from kohakuriver.wire.environments import Ask, Published
from kohakuriver.wire.link import WireVersion

log = logging.getLogger(__name__)

LONGEST_LOCATOR = 4096
MOST_BLOBS = 256


@dataclass(frozen=True, kw_only=True)
class Order:
    """A version that somebody wants made."""

    environment: str
    #: what the builder is asked, by the number that the version gets
    question: Callable[[int], Ask]
    cause: Cause
    note: str = ""
    #: what belongs to the question
    feed: Feed | None = None
    #: a number that was set aside before
    number: int | None = None


async def publish(host: Host, operation: Operation, order: Order) -> StoredVersion:
    """The version, once it is stored. Raises what the builder says went wrong, NoBuilder, StorageFull, PluginError."""
    parts = host.environments
    member = parts.builder()
    number = await give_number(host, order.environment) if order.number is None else order.number
    operation.number = number
    try:
        version = await _published(host, operation, order, member)
    except KohakuRiverError:
        await sweep_after(host, member)
        raise
    if member.id in parts.unswept:
        await sweep_after(host, member)
    log.info("a version was stored", extra={"action": "environment_version", "version": version.name})
    return version


async def _published(host: Host, operation: Operation, order: Order, member: Member) -> StoredVersion:
    parts, number = host.environments, operation.number
    assert number is not None
    async with parts.contents.publishing(member.id):
        published = await parts.asker.ask(
            member.id, order.question(number), Published, told=operation.progress, feed=order.feed, limit=LONG
        )
        _judge(host, order.environment, number, published.version)
        operation.moved = published.moved
        version = _version(host, published.version, order)
        event = records.event(
            host.ids.next(), host.clock.now(), "environment_version", order.cause, node=member.id,
            detail={"environment": version.environment, "number": number, "digest": version.digest, "note": order.note},
        )  # fmt: skip

        def then() -> None:
            parts.catalog.add(version)
            host.changes.publish("environment", version.environment, "version")
            parts.waiting.there(version.name)

        await host.commits.write([add_version(version), *records.events([event])], then)
    return version


async def give_number(host: Host, environment: str) -> int:
    """The next number of the environment, given to nobody else, ever."""
    catalog = host.environments.catalog
    highest = catalog.highest(environment)
    try:
        await host.commits.write(
            [set_aside(environment, highest, host.clock.now())], lambda: catalog.set_aside(environment, highest + 1)
        )
    except (WrongCount, ConstraintFailed):
        raise MovedOn(f"{environment}: somebody else took version {highest + 1}; try again") from None
    return highest + 1


def _judge(host: Host, environment: str, number: int, version: WireVersion) -> None:
    """Raises PluginError for an answer that does not fit the question: runners are not trusted."""
    name = version_name(environment, number)
    contents = host.environments.contents
    lacking = [blob for blob in version.blobs[:MOST_BLOBS] if not contents.has(blob)]
    if (version.environment, version.number) != (environment, number):
        raise PluginError(f"{name}: the builder answered with {version.environment[:64]}:{version.number}")
    if DIGEST.fullmatch(version.digest) is None:
        raise PluginError(f"{name}: the builder named no digest of its image")
    if len(version.locator.encode()) > LONGEST_LOCATOR or len(version.blobs) > MOST_BLOBS:
        raise PluginError(f"{name}: the syncer's locator is longer than {LONGEST_LOCATOR} bytes or {MOST_BLOBS} blobs")
    if lacking:
        raise PluginError(f"{name}: {len(lacking)} of its contents did not arrive at the host, such as {lacking[0]}")


def _version(host: Host, told: WireVersion, order: Order) -> StoredVersion:
    return StoredVersion(
        environment=told.environment,
        number=told.number,
        digest=told.digest,
        size=told.size,
        syncer=(told.syncer or host.settings.environment_syncer)[:64],
        locator=told.locator,
        blobs=tuple(told.blobs),
        author=order.cause.actor,
        note=order.note,
        created=host.clock.now(),
    )
