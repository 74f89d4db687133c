"""The default environment: made from an image at its first use, while the tasks that want it wait."""

import asyncio
import logging

from kohakuriver.domain.environments import parse_version, version_name
from kohakuriver.domain.reasons import Reason
from kohakuriver.domain.units import show_size
from kohakuriver.errors import BackendAway, Conflict, KohakuRiverError, MovedOn, NotReady, TooMany, Unreachable
from kohakuriver.host.cause import Cause
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.environments.operations import Operation
from kohakuriver.host.environments.orders import settle_all
from kohakuriver.host.environments.publishing import Order, give_number, publish
from kohakuriver.host.environments.removal import finish_removals, trim_all
from kohakuriver.host.host import Host
from kohakuriver.host.views import WAITING
from kohakuriver.wire.environments import PublishReference
from kohakuriver.wire.envs_api import RUNNING

log = logging.getLogger(__name__)

CLUSTER = Cause(actor="the cluster")
TICK = 10.0
#: ticks between two looks for what could not be done before, and for versions beyond those that are kept
TRIM_TICKS = 360


def base_name(host: Host) -> str:
    """The full name of what the default environment means now; perhaps of a version that is still to be made.

    Raises NoBuilder when no node can make it.
    """
    parts, name = host.environments, host.settings.default_container_name
    newest = parts.catalog.newest(name)
    if newest is not None:
        return newest.name
    if parts.making.number is None:
        parts.builder()
    return version_name(name, parts.making.number or parts.catalog.highest(name) + 1)


def is_base(host: Host, text: str) -> bool:
    """Whether a name means the default environment, which is not there yet."""
    name, number = parse_version(text)
    parts = host.environments
    if name != host.settings.default_container_name or parts.catalog.newest(name) is not None:
        return False
    return number is None or number == parts.making.number


async def ensure_base(host: Host, name: str | None) -> bool:
    """Sees to it that this version is there or being made; whether something was waited for.

    Raises MovedOn, and what the store says.
    """
    parts = host.environments
    if name is None or parts.catalog.get(name) is not None:
        return False
    environment, number = parse_version(name)
    async with parts.making.lock:
        if parts.making.number is None and parts.catalog.highest(environment) + 1 == number:
            parts.making.number = await give_number(host, environment)
    if parts.making.number != number and parts.catalog.get(name) is None:
        raise MovedOn(f"{name} came to nothing just now; try again", field="container")
    begin_base(host)
    return True


def hold_version(host: Host, name: str | None) -> None:
    """Keeps a version that tasks are to run in from being removed, until `Catalog.let_go`. Raises MovedOn when it is
    not there any more, or not being made.
    """
    parts = host.environments
    if name is None:
        return
    if parts.catalog.get(name) is None:
        environment, number = parse_version(name)
        if environment != host.settings.default_container_name or number != parts.making.number:
            raise MovedOn(f"{name} has gone just now; try again", field="container", value=name)
    parts.catalog.hold(name)


def resume_base(host: Host) -> None:
    """After a start: what waited for the default environment waits on, what lost its environment ends."""
    parts = host.environments
    default = host.settings.default_container_name
    parts.waiting.progress = lambda name: progress_of(host, name).text
    parts.waiting.expect(task for task in host.board.all() if task.status in WAITING)
    for name in parts.waiting.names():
        environment, number = parse_version(name)
        if environment == default and number == parts.catalog.highest(default):
            parts.making.number = number
        else:
            parts.waiting.doom(name, f"environment {name} is not there any more")


def begin_base(host: Host) -> None:
    """Begins to make it, if it is wanted, not under way, and the builder is there."""
    parts = host.environments
    if parts.making.number is None or _running(parts.making.operation):
        return
    try:
        if parts.builder().connected:
            name = host.settings.default_container_name
            parts.making.operation = parts.operations.start(
                "reference", name, CLUSTER.actor, lambda operation: _make(host, operation)
            )
    except (NoBuilder, Conflict) as error:
        log.debug("the default environment waits: %s", error, extra={"action": "environment_base"})


def base_reason(host: Host, name: str | None) -> Reason | None:
    """What tasks in this version would wait for; None when it is there."""
    if name is None or host.environments.catalog.get(name) is not None:
        return None
    return progress_of(host, name)


def progress_of(host: Host, name: str) -> Reason:
    """How far the making of a version is, in words."""
    operation, number = host.environments.making.operation, parse_version(name)[1]
    words = "its builder is not connected"
    if operation is not None and operation.number in {None, number}:
        words = operation.note or "it has begun"
        if operation.done is not None and operation.total:
            words += f", {show_size(operation.done)} of {show_size(operation.total)}"
        if operation.error is not None:
            words = f"tried again soon: {operation.error}"
    return Reason(code="environment", text=f"environment {name} is being made: {words}")


async def run_base(host: Host) -> None:
    """Tries again what had to wait, and lets versions go, until cancelled."""
    ticks = 0
    while True:
        begin_base(host)
        if ticks % TRIM_TICKS == 0:
            await settle_all(host)
            await finish_removals(host)
            await trim_all(host)
        ticks += 1
        await asyncio.sleep(TICK)


async def _make(host: Host, operation: Operation) -> None:
    parts, settings = host.environments, host.settings
    name, number, image = settings.default_container_name, parts.making.number, settings.initial_base_image
    assert number is not None
    operation.note = f"fetching {image}"
    order = Order(
        environment=name,
        number=number,
        question=lambda number: PublishReference(
            name=name, number=number, syncer=settings.environment_syncer, image=image
        ),
        cause=CLUSTER,
        note=f"made of {image}",
    )
    try:
        await publish(host, operation, order)
    except (Unreachable, BackendAway, NoBuilder, NotReady, TooMany):
        # that passes, and it is tried again
        raise
    except KohakuRiverError as error:
        parts.making.number = None
        parts.waiting.doom(
            version_name(name, number), f"environment {name} could not be made of {image}: {error.message}"
        )
        raise
    parts.making.number = None


def _running(operation: Operation | None) -> bool:
    return operation is not None and operation.state == RUNNING
