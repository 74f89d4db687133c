"""Environments and versions as people see them, what is under way, and what lies on a syncer's medium."""

from collections import Counter
from collections.abc import AsyncIterator

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.environments import check_environment
from kohakuriver.host.environments.removal import users
from kohakuriver.host.host import Host
from kohakuriver.store.environments import StoredVersion
from kohakuriver.wire.api import Page
from kohakuriver.wire.environments import ListStored, StoredVersions
from kohakuriver.wire.envs_api import EnvironmentView, OperationView, StoredView, VersionView

STORED_SECONDS = 600.0
MOST_STORED = 100_000


def list_environments(host: Host, actor: Actor) -> Page[EnvironmentView]:
    """All of them with all their versions; there are few enough for one page."""
    authorize(actor, Action.ENVIRONMENT_USE)
    used = users(host)
    return Page(items=[_view(host, name, used) for name in host.environments.catalog.names()])


def show_environment(host: Host, actor: Actor, name: str) -> EnvironmentView:
    """One of them. Raises Invalid, NotFound that says what there is."""
    authorize(actor, Action.ENVIRONMENT_USE)
    check_environment(name, "environment")
    if not host.environments.catalog.highest(name):
        raise host.environments.catalog.lacking(name, None, "environment")
    return _view(host, name, users(host))


async def list_stored(host: Host, actor: Actor, syncer: str | None) -> Page[StoredView]:
    """What lies on the medium of a syncer. Raises NoBuilder, Unreachable, PluginError."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    parts = host.environments
    question = ListStored(syncer=syncer or host.settings.environment_syncer)
    answer = await parts.asker.ask(parts.builder().id, question, StoredVersions, limit=STORED_SECONDS)
    known = {(one.environment, one.number, one.digest) for one in parts.catalog.all()}
    views = [
        StoredView(
            environment=one.version.environment[:253],
            number=one.version.number,
            digest=one.version.digest[:200],
            size=one.size,
            created=one.created,
            foreign=one.foreign,
            known=(one.version.environment, one.version.number, one.version.digest) in known,
        )
        for one in answer.versions[:MOST_STORED]
    ]
    return Page(items=sorted(views, key=lambda view: (view.environment, view.number)))


def list_operations(host: Host, actor: Actor) -> Page[OperationView]:
    """What is under way and what was of late, newest first."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    return Page(items=[operation.view() for operation in host.environments.operations.all()])


def show_operation(host: Host, actor: Actor, ref: str) -> OperationView:
    """One of them. Raises NotFound."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    return host.environments.operations.get(ref).view()


def follow_operation(host: Host, actor: Actor, ref: str) -> AsyncIterator[OperationView]:
    """How it stands, now and with every change, until its end. Raises NotFound."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    operations = host.environments.operations
    return operations.follow(operations.get(ref))


def _view(host: Host, name: str, used: Counter[str]) -> EnvironmentView:
    catalog = host.environments.catalog
    newest = catalog.newest(name)
    return EnvironmentView(
        name=name,
        newest=None if newest is None else newest.number,
        default=name == host.settings.default_container_name,
        versions=[_version(version, used[version.name]) for version in catalog.of(name)],
    )


def _version(version: StoredVersion, tasks: int) -> VersionView:
    return VersionView(
        environment=version.environment,
        number=version.number,
        digest=version.digest,
        size=version.size,
        syncer=version.syncer,
        author=version.author,
        note=version.note,
        created=version.created,
        tasks=tasks,
        removing=version.removing,
    )
