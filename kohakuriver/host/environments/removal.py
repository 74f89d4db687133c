"""How versions go: marked, taken from their medium by the builder, forgotten. Each step may be done again.

A version that an open task is to run in stays, and one that is being removed cannot be named any more.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from kohakuriver.domain.access import Actor
from kohakuriver.domain.environments import check_environment, surplus
from kohakuriver.errors import Conflict, KohakuRiverError
from kohakuriver.host import records
from kohakuriver.host.cause import Cause, by
from kohakuriver.host.environments.audit import audited
from kohakuriver.host.environments.catalog import wire_version
from kohakuriver.host.environments.operations import Operation
from kohakuriver.host.host import Host
from kohakuriver.store.environments import StoredVersion, begin_removal, end_removal
from kohakuriver.wire.environments import Done, RemoveVersion
from kohakuriver.wire.envs_api import OperationView

log = logging.getLogger(__name__)

RETENTION = Cause(actor="retention")
#: tasks in one sentence
MOST_NAMED = 3


async def remove_versions(host: Host, actor: Actor, environment: str, number: int | None) -> OperationView:
    """Removes one version of an environment, or all of it. Raises NotFound, Conflict (an open task is to run in it)."""
    check_environment(environment, "environment")
    catalog = host.environments.catalog
    if number is None:
        catalog.find(environment, "environment")
        versions = [version for version in catalog.of(environment) if not version.removing]
    else:
        versions = [catalog.find(f"{environment}:{number}", "version")]
    await audited(host, actor, "remove", environment=environment, number=number)
    with host.environments.operations.claim(environment):
        await mark(host, versions, by(actor))

    async def work(operation: Operation) -> None:
        operation.number = number
        await take_away(host, versions)

    return host.environments.operations.start("remove", environment, actor.name, work).view()


async def mark(host: Host, versions: Sequence[StoredVersion], cause: Cause) -> None:
    """From now on nobody can name them. All or none. Raises Conflict for one that is used, or marked already."""
    catalog, used = host.environments.catalog, users(host)
    for version in versions:
        if catalog.get(version.name) is None:
            raise Conflict(f"{version.name} is being removed already", field="version", value=version.name)
        if used[version.name] or catalog.held(version.name):
            raise Conflict(
                f"{version.name} is what {_named(host, version)} to run in; wait for that, or kill it",
                field="version",
                value=version.name,
            )
    for version in versions:
        catalog.mark(version, removing=True)

    def otherwise() -> None:
        for version in versions:
            catalog.mark(version, removing=False)

    def then() -> None:
        for environment in {version.environment for version in versions}:
            host.changes.publish("environment", environment, "removing")

    now = host.clock.now()
    events = [
        records.event(
            host.ids.next(), now, "environment_removed", cause,
            detail={"environment": version.environment, "number": version.number, "digest": version.digest},
        )
        for version in versions
    ]  # fmt: skip
    await host.commits.write([*map(begin_removal, versions), *records.events(events)], then, otherwise)


async def take_away(host: Host, versions: Sequence[StoredVersion]) -> None:
    """Takes marked versions from their medium, then forgets them, then the contents that nothing needs any more.

    Raises what the builder says; what is left is tried again within the hour, and when the builder connects.
    """
    parts = host.environments
    builder = parts.builder()
    for version in versions:
        await parts.asker.ask(builder.id, RemoveVersion(version=wire_version(version)), Done)
        await host.commits.write([end_removal(version)], partial(parts.catalog.drop, version))
        host.changes.publish("environment", version.environment, "removed")
    await parts.contents.sweep(parts.catalog.blobs)


async def finish_removals(host: Host) -> None:
    """Goes on with what was marked and not taken away, unless that is under way."""
    parts = host.environments
    by_name: dict[str, list[StoredVersion]] = {}
    for version in parts.catalog.all():
        if version.removing:
            by_name.setdefault(version.environment, []).append(version)
    for name, versions in by_name.items():
        if not parts.operations.busy(name):
            await _quietly(host, name, versions)


async def trim(host: Host, environment: str) -> None:
    """Lets the versions go that are beyond what is kept; nobody's operation fails by it."""
    parts = host.environments
    there = {one.number: one for one in parts.catalog.of(environment) if not one.removing}
    used = users(host)
    busy = {number for number, one in there.items() if used[one.name] or parts.catalog.held(one.name)}
    gone = surplus(there, keep=host.settings.environment_versions_kept, used=busy)
    if not gone:
        return
    versions = [there[number] for number in gone]
    try:
        await mark(host, versions, RETENTION)
        await take_away(host, versions)
    except KohakuRiverError as error:
        extra = {"action": "environment_trim", "environment": environment}
        log.info("old versions go later: %s", error, extra=extra)


async def trim_all(host: Host) -> None:
    """The same for every environment on which nothing is at work."""
    for name in host.environments.catalog.names():
        if not host.environments.operations.busy(name):
            await trim(host, name)


def users(host: Host) -> Counter[str]:
    """How many open tasks are to run in each version."""
    return Counter(task.spec.container for task in host.board.all() if task.spec.container is not None)


async def _quietly(host: Host, name: str, versions: Sequence[StoredVersion]) -> None:
    try:
        with host.environments.operations.claim(name):
            await take_away(host, versions)
    except KohakuRiverError as error:
        log.info("a removal goes on later: %s", error, extra={"action": "environment_remove", "environment": name})


def _named(host: Host, version: StoredVersion) -> str:
    tasks = [task.id for task in host.board.all() if task.spec.container == version.name]
    if not tasks:
        return "a task that is being submitted is"
    words = ", ".join(str(task) for task in tasks[:MOST_NAMED]) + (" and others" if len(tasks) > MOST_NAMED else "")
    return f"task {words} is" if len(tasks) == 1 else f"tasks {words} are"
