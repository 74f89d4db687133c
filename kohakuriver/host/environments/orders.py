"""Versions that people ask for: of a container, a build context, an archive or a reference."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from kohakuriver.domain.access import Actor
from kohakuriver.domain.environments import check_environment, check_image
from kohakuriver.errors import BackendAway, KohakuRiverError, Malformed, Unreachable
from kohakuriver.host.cause import by
from kohakuriver.host.environments.asks import Conversation
from kohakuriver.host.environments.audit import audited
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.environments.catalog import wire_version
from kohakuriver.host.environments.operations import Operation
from kohakuriver.host.environments.publishing import Order, publish
from kohakuriver.host.environments.removal import trim
from kohakuriver.host.host import Host
from kohakuriver.store.environments import StoredVersion
from kohakuriver.wire.environments import (
    BuildVersion,
    Done,
    ImportVersion,
    PackageContainer,
    PublishReference,
    SettleContainer,
)
from kohakuriver.wire.envs_api import RUNNING, BuildQuery, OperationView, PackageAsk, ReferenceAsk
from kohakuriver.wire.frames import MOST_PAYLOAD, Kind
from kohakuriver.wire.link import WireVersion

log = logging.getLogger(__name__)

#: seconds for a container to be made anew
SETTLE_SECONDS = 600.0
#: pieces of an upload that wait for the builder
MOST_WAITING = 4


class Upload:
    """A body on its way from a request to the builder: what the one brings the other takes, piece by piece."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | KohakuRiverError | None] = asyncio.Queue(MOST_WAITING)
        self._over = asyncio.Event()
        #: the builder was sent all of it
        self.complete = False

    async def bring(self, pieces: AsyncIterator[bytes]) -> None:
        """Hands over all of it; returns when the builder has it, or wants no more. Cancelled, or with a body that broke
        off, the operation fails.
        """
        try:
            async for piece in pieces:
                for at in range(0, len(piece), MOST_PAYLOAD):
                    await self._pieces.put(piece[at : at + MOST_PAYLOAD])
                if self._over.is_set():
                    return
            await self._pieces.put(None)
        except BaseException as error:
            self._break_off(error if isinstance(error, KohakuRiverError) else Malformed("the upload broke off"))
            raise
        await self._over.wait()

    async def feed(self, talk: Conversation) -> None:
        """The other side of it. Raises what broke the upload off."""
        try:
            while (piece := await self._pieces.get()) is not None:
                if isinstance(piece, KohakuRiverError):
                    raise piece
                await talk.send(Kind.DATA, piece)
            await talk.send(Kind.END)
            self.complete = True
        finally:
            self.end()

    def end(self) -> None:
        """Nobody takes any more of it. May be called twice."""
        self._over.set()
        self._empty()

    def _break_off(self, error: KohakuRiverError) -> None:
        self._empty()
        self._pieces.put_nowait(error)

    def _empty(self) -> None:
        """Who waits to hand over a piece, one at most, gets rid of it."""
        while not self._pieces.empty():
            self._pieces.get_nowait()


async def package_container(host: Host, actor: Actor, name: str, ask: PackageAsk) -> OperationView:
    """The container becomes the next version of the environment of its name, and is made anew of it."""
    check_environment(name, "container")
    host.environments.builder()
    await audited(host, actor, "package", container=name, note=ask.note, force=ask.force)
    syncer = host.settings.environment_syncer
    order = Order(
        environment=name,
        question=lambda number: PackageContainer(name=name, number=number, syncer=syncer, force=ask.force),
        cause=by(actor),
        note=ask.note,
    )

    async def then(version: StoredVersion) -> None:
        host.environments.unsettled[name] = wire_version(version)
        await settle(host, name)

    return _started(host, "package", actor, order, then)


async def build_version(
    host: Host, actor: Actor, name: str, query: BuildQuery, pieces: AsyncIterator[bytes]
) -> OperationView:
    """Builds from a tar of the context; returns once the builder has all of that. Raises what broke the upload off."""
    check_environment(name, "environment")
    host.environments.builder()
    await audited(host, actor, "build", environment=name, dockerfile=query.dockerfile, note=query.note)
    syncer = host.settings.environment_syncer
    order = Order(
        environment=name,
        question=lambda number: BuildVersion(name=name, number=number, syncer=syncer, dockerfile=query.dockerfile),
        cause=by(actor),
        note=query.note,
    )
    return await _uploaded(host, "build", actor, order, pieces)


async def import_version(host: Host, actor: Actor, name: str, note: str, pieces: AsyncIterator[bytes]) -> OperationView:
    """Takes an archive as `docker save` writes it; returns once the builder has all of it."""
    check_environment(name, "environment")
    host.environments.builder()
    await audited(host, actor, "import", environment=name, note=note)
    syncer = host.settings.environment_syncer
    order = Order(
        environment=name,
        question=lambda number: ImportVersion(name=name, number=number, syncer=syncer),
        cause=by(actor),
        note=note,
    )
    return await _uploaded(host, "import", actor, order, pieces)


async def publish_reference(host: Host, actor: Actor, name: str, ask: ReferenceAsk) -> OperationView:
    """The image behind a reference becomes the next version."""
    check_environment(name, "environment")
    check_image(ask.image)
    host.environments.builder()
    await audited(host, actor, "reference", environment=name, image=ask.image, note=ask.note)
    syncer = host.settings.environment_syncer
    order = Order(
        environment=name,
        question=lambda number: PublishReference(name=name, number=number, syncer=syncer, image=ask.image),
        cause=by(actor),
        note=ask.note,
    )
    return _started(host, "reference", actor, order)


async def settle(host: Host, name: str) -> None:
    """Has a container made anew of the version that it became; what cannot be now, later."""
    parts = host.environments
    version = parts.unsettled.get(name)
    if version is None:
        return
    try:
        question = SettleContainer(name=name, version=version)
        await parts.asker.ask(parts.builder().id, question, Done, limit=SETTLE_SECONDS)
    except (Unreachable, BackendAway, NoBuilder):
        return
    except KohakuRiverError as error:
        # the version is there all the same; the container stays on its old base
        log.warning("a container was not made anew: %s", error, extra={"action": "settle", "container": name})
    forget_settling(host, name, version)


async def settle_all(host: Host) -> None:
    """The same for every container that still waits for it, and at which nothing else is at work."""
    parts = host.environments
    for name in list(parts.unsettled):
        if not parts.operations.busy(name):
            with parts.operations.claim(name):
                await settle(host, name)


def forget_settling(host: Host, name: str, version: WireVersion | None = None) -> None:
    """The container is no longer what became that version; without one, of any."""
    if version is None or host.environments.unsettled.get(name) is version:
        host.environments.unsettled.pop(name, None)


Then = Callable[[StoredVersion], Awaitable[None]]


async def _nothing(version: StoredVersion) -> None:
    del version


def _started(host: Host, kind: str, actor: Actor, order: Order, then: Then = _nothing) -> OperationView:
    async def work(operation: Operation) -> None:
        forget_settling(host, order.environment)
        version = await publish(host, operation, order)
        await then(version)
        await trim(host, order.environment)

    return host.environments.operations.start(kind, order.environment, actor.name, work).view()


async def _uploaded(host: Host, kind: str, actor: Actor, order: Order, pieces: AsyncIterator[bytes]) -> OperationView:
    upload = Upload()

    async def work(operation: Operation) -> None:
        try:
            await publish(host, operation, replace(order, feed=upload.feed))
        finally:
            upload.end()
        await trim(host, order.environment)

    operation = host.environments.operations.start(kind, order.environment, actor.name, work)
    await upload.bring(pieces)
    while not upload.complete and operation.state == RUNNING:
        await operation.news.wait()
    if operation.error is not None and not upload.complete:
        raise operation.error
    return operation.view()
