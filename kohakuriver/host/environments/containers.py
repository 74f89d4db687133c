"""Environment containers on the builder: list, make, start, stop, delete. The builder says what cannot be."""

from kohakuriver.domain.access import Action, Actor, authorize
from kohakuriver.domain.environments import check_environment, check_image
from kohakuriver.errors import Invalid, PluginError
from kohakuriver.host.environments.asks import LONG
from kohakuriver.host.environments.audit import audited
from kohakuriver.host.environments.catalog import wire_version
from kohakuriver.host.environments.operations import Operation
from kohakuriver.host.environments.orders import forget_settling
from kohakuriver.host.host import Host
from kohakuriver.wire.api import Page
from kohakuriver.wire.environments import (
    Ask,
    Container,
    Containers,
    CreateContainer,
    DeleteContainer,
    Done,
    ListContainers,
    StartContainer,
    StopContainer,
)
from kohakuriver.wire.envs_api import ContainerView, NewContainer, OperationView

#: containers in one answer; a builder with more of them is broken
MOST_LISTED = 10_000


async def list_containers(host: Host, actor: Actor) -> Page[ContainerView]:
    """All of them, by name. Raises NoBuilder, Unreachable, PluginError."""
    authorize(actor, Action.ENVIRONMENT_CHANGE)
    parts = host.environments
    answer = await parts.asker.ask(parts.builder().id, ListContainers(), Containers)
    if len(answer.containers) > MOST_LISTED:
        raise PluginError(f"the builder names {len(answer.containers)} containers")
    return Page(items=sorted(map(_view, answer.containers), key=lambda view: view.name))


async def create_container(host: Host, actor: Actor, new: NewContainer) -> OperationView:
    """Makes one of an image or of a version, and starts it."""
    check_environment(new.name)
    if (new.image is None) == (new.environment is None):
        raise Invalid("say of what: either an image or an environment", field="image", limit="one of the two")
    if new.image is not None:
        question = CreateContainer(name=new.name, image=check_image(new.image), pull=new.pull)
    else:
        version = host.environments.catalog.find(new.environment or "", "environment")
        question = CreateContainer(name=new.name, version=wire_version(version))
    builder = host.environments.builder()
    await audited(host, actor, "container_create", container=new.name, image=new.image, environment=new.environment)

    async def work(operation: Operation) -> None:
        forget_settling(host, new.name)
        await host.environments.asker.ask(builder.id, question, Container, told=operation.progress, limit=LONG)
        host.changes.publish("container", new.name, "created")

    return host.environments.operations.start("container", new.name, actor.name, work).view()


async def start_container(host: Host, actor: Actor, name: str) -> None:
    """Idempotent. Raises NotFound."""
    await _short(host, actor, "start", name, StartContainer(name=name))


async def stop_container(host: Host, actor: Actor, name: str) -> None:
    """Idempotent; its files stay. Raises NotFound."""
    await _short(host, actor, "stop", name, StopContainer(name=name))


async def delete_container(host: Host, actor: Actor, name: str) -> None:
    """With everything in it. Raises NotFound."""
    await _short(host, actor, "delete", name, DeleteContainer(name=name))
    forget_settling(host, name)


async def _short(host: Host, actor: Actor, verb: str, name: str, question: Ask) -> None:
    check_environment(name, "container")
    parts = host.environments
    builder = parts.builder()
    await audited(host, actor, f"container_{verb}", container=name)
    with parts.operations.claim(name):
        await parts.asker.ask(builder.id, question, Done)
    host.changes.publish("container", name, verb)


def _view(container: Container) -> ContainerView:
    return ContainerView(
        name=container.name[:63],
        state=container.state[:32],
        base=container.base[:200],
        origin=container.origin[:600],
        created=container.created,
        size=container.size,
        shells=container.shells,
    )
