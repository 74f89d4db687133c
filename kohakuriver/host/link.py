"""The host's end of the link: one session a node, from hello to its end (contrib/notes/wire.md §4)."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kohakuriver import __version__
from kohakuriver.errors import KohakuRiverError
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock
from kohakuriver.host.commits import Commits
from kohakuriver.host.dispatch import Dispatch
from kohakuriver.host.reports import Reports
from kohakuriver.host.roster import Member
from kohakuriver.host.session import (
    GOING_AWAY,
    HELLO_SECONDS,
    MOST_WAITING,
    POLICY,
    SUPERSEDED,
    SYNC_SECONDS,
    BrokenOrderError,
    Channel,
    Session,
)
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.streams import Streams
from kohakuriver.store.columns import micros
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import update
from kohakuriver.wire import codec, link

log = logging.getLogger(__name__)

BATCH = 256
RETRY_SECONDS = 1.0
FLUSH_SECONDS = 1.0
MOST_CELLS = 256
MOST_DEVICES = 256


@dataclass(kw_only=True)
class Links:
    """Every connected runner. `woken` is called when a node came or went; `ended` gets reports that ended attempts."""

    settings: HostSettings
    cluster: str
    incarnation: int
    clock: Clock
    commits: Commits
    changes: Changes
    dispatch: Dispatch
    reports: Reports
    streams: Streams
    woken: Callable[[], None]
    ended: Callable[[Member, link.Report], None]
    held: Callable[[Member, Sequence[link.Held]], Coroutine[None, None, None]]
    _opening: int = 0
    _sessions: set[Session] = field(default_factory=set)

    @property
    def busy(self) -> bool:
        """Whether so many sessions are being opened that the next is told to come again."""
        return self._opening >= self.settings.handshakes

    async def serve(self, channel: Channel, member: Member) -> None:
        """One whole session; returns when it is over. Cancelling it closes the socket."""
        session = Session(channel, member.id)
        self._sessions.add(session)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(session.write())
                try:
                    await self._session(session, member, group)
                except BrokenOrderError as broken:
                    log.warning("a runner broke the order of the link", extra={"action": "link", "node": member.name})
                    session.end(POLICY, str(broken))
                session.end()
                await asyncio.wait([writer], timeout=FLUSH_SECONDS)
                writer.cancel()
        except* (ConnectionError, TimeoutError):
            log.info("link lost", extra={"action": "link_lost", "node": member.name})
        finally:
            self._sessions.discard(session)
            self._left(session, member)

    async def _session(self, session: Session, member: Member, group: asyncio.TaskGroup) -> None:
        self._opening += 1
        try:
            held = await self._open(session, member)
        finally:
            self._opening -= 1
        if held is not None:
            await self._live(session, member, held, group)

    def revoke(self, member: Member) -> None:
        """Cuts the node off: its session and its streams end at once."""
        self.streams.revoke(member.id)
        if member.session is not None:
            member.session.send(link.Refused(code="revoked", reason="this node was revoked", final=True))
            member.session.end(POLICY, "revoked")

    def close(self) -> None:
        """Ends every session; runners dial again."""
        for session in self._sessions:
            session.end(GOING_AWAY, "the host stops")

    async def _open(self, session: Session, member: Member) -> list[link.Held] | None:
        """Hello, welcome, inventory and wanted set. None when the session was refused."""
        async with asyncio.timeout(HELLO_SECONDS):
            hello = await session.receive()
        if not isinstance(hello, link.Hello):
            raise BrokenOrderError("the first message is hello")
        refused = self._refuse(hello, member)
        if refused is not None:
            session.send(refused)
            return None
        self._supersede(session, member)
        session.id = hello.session
        await self._learn(hello, member)
        session.send(
            link.Welcome(
                version=__version__,
                cluster=self.cluster,
                incarnation=self.incarnation,
                session=hello.session,
                node=member.name,
                heartbeat_seconds=self.settings.heartbeat,
                acknowledged=member.acknowledged,
            )
        )
        async with asyncio.timeout(SYNC_SECONDS):
            held = await _inventory(session)
        for page in self.dispatch.wanted_set(member, held):
            session.send(page)
        return held

    def _refuse(self, hello: link.Hello, member: Member) -> link.Refused | None:
        if member.revoked:
            return link.Refused(code="revoked", reason="this node was revoked; join it again", final=True)
        if hello.major != link.MAJOR:
            reason = f"this host speaks version {link.MAJOR} of the link, the runner {hello.major}"
            return link.Refused(code="version", reason=reason)
        if hello.cluster not in {"", self.cluster}:
            reason = "the runner belongs to another cluster; run `kohakuriver node join` on it again"
            return link.Refused(code="cluster", reason=reason, final=True)
        if hello.incarnation > self.incarnation:
            reason = "the runner has seen a newer state of this host than it has itself"
            return link.Refused(code="incarnation", reason=reason, final=True)
        return None

    def _supersede(self, session: Session, member: Member) -> None:
        older, member.session = member.session, session
        if older is not None:
            older.send(link.Refused(code="superseded", reason="a newer session of this node"))
            older.end(SUPERSEDED, "superseded")

    async def _learn(self, hello: link.Hello, member: Member) -> None:
        """Commits what hello says of the machine. A new epoch begins its numbers anew."""
        if len(hello.cells) > MOST_CELLS or sum(len(cell.devices) for cell in hello.cells) > MOST_DEVICES:
            raise BrokenOrderError(f"at most {MOST_CELLS} NUMA cells and {MOST_DEVICES} devices")
        now = self.clock.now()
        acknowledged = member.acknowledged if hello.epoch == member.epoch else 0
        statement = update(
            NodeRow,
            where={"id": member.id},
            set={
                "epoch": hello.epoch,
                "boot": hello.boot[:64],
                "version": hello.version[:64],
                "labels": codec.encode(hello.labels).decode(),
                "cells": codec.encode(hello.cells).decode(),
                "backends": codec.encode(hello.backends).decode(),
                "acknowledged": acknowledged,
                "seen": micros(now),
            },
        )
        await self.commits.write([statement])
        member.epoch, member.boot, member.version = hello.epoch, hello.boot[:64], hello.version[:64]
        member.acknowledged, member.labels = acknowledged, hello.labels
        member.skew = _skew(hello.clock, now)
        member.learn(hello.cells, hello.backends)

    async def _live(self, session: Session, member: Member, held: list[link.Held], group: asyncio.TaskGroup) -> None:
        session.live = True
        member.heard = self.clock.monotonic()
        log.info("node is online", extra={"action": "link_live", "node": member.name})
        self.dispatch.assign_missing(member, held)
        self.changes.publish("node", member.id)
        self.woken()
        waiting: asyncio.Queue[link.Report] = asyncio.Queue(MOST_WAITING)
        helpers = [group.create_task(self._take_reports(session, member, waiting))]
        helpers.append(group.create_task(self.held(member, held)))
        try:
            while (message := await session.receive()) is not None:
                self._handle(member, message, waiting)
        finally:
            for helper in helpers:
                helper.cancel()

    def _handle(self, member: Member, message: link.FromRunner, waiting: asyncio.Queue[link.Report]) -> None:
        member.heard = self.clock.monotonic()
        match message:
            case link.Report():
                if waiting.full():
                    raise BrokenOrderError(f"more than {MOST_WAITING} reports without an acknowledgement")
                waiting.put_nowait(message)
            case link.Heartbeat():
                self._beat(member, message)
            case link.Progress():
                self.changes.publish("progress", message.attempt[:40])
            case link.DialFailed():
                self.streams.refused(message.ticket, member.id, message.reason)
            case link.Refresh():
                member.learn(message.cells, message.backends)
                self.woken()
            case _:
                raise BrokenOrderError("hello and inventory come once, at the beginning")

    def _beat(self, member: Member, beat: link.Heartbeat) -> None:
        now = self.clock.now()
        member.beat = beat
        member.skew = _skew(beat.at, now)
        last = member.history[-1][0] if member.history else None
        if last is None or now - last >= timedelta(seconds=self.settings.heartbeat / 2):
            member.history.append((now, beat))

    async def _take_reports(self, session: Session, member: Member, waiting: asyncio.Queue[link.Report]) -> None:
        """Commits reports in batches and acknowledges them. A store that cannot write now is tried again."""
        while True:
            batch = [await waiting.get()]
            while not waiting.empty() and len(batch) < BATCH:
                batch.append(waiting.get_nowait())
            while True:
                try:
                    acknowledged = await self.reports.take(member, member.epoch, batch)
                except KohakuRiverError as error:
                    log.warning("reports wait: %s", error, extra={"action": "reports_wait", "node": member.name})
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                break
            session.send(link.Ack(seq=acknowledged))
            for report in batch:
                self.ended(member, report)

    def _left(self, session: Session, member: Member) -> None:
        if member.session is not session:
            return
        member.session = None
        self.streams.link_lost(member.id)
        self.changes.publish("node", member.id)
        self.woken()


async def _inventory(session: Session) -> list[link.Held]:
    held: list[link.Held] = []
    while True:
        page = await session.receive()
        if not isinstance(page, link.Inventory):
            raise BrokenOrderError("after hello comes the inventory")
        held += page.held
        if page.last:
            return held


def _skew(clock: datetime | None, now: datetime) -> float | None:
    """Seconds that the node's clock is ahead."""
    if clock is None:
        return None
    told = clock if clock.tzinfo is not None else clock.replace(tzinfo=UTC)
    return (told - now).total_seconds()
