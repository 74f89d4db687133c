"""The host's end of the link: one session a node, from hello to its end (contrib/notes/wire.md §4)."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from kohakuriver import __version__
from kohakuriver.errors import KohakuRiverError, TooMany
from kohakuriver.host import records
from kohakuriver.host.cause import Cause
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.commits import Commits
from kohakuriver.host.conduct import CLOSED, MISBEHAVED
from kohakuriver.host.dispatch import Dispatch
from kohakuriver.host.inventory import fault
from kohakuriver.host.preparing import Preparing
from kohakuriver.host.reports import Reports
from kohakuriver.host.roster import Member
from kohakuriver.host.session import (
    GOING_AWAY,
    HELLO_SECONDS,
    MOST_WAITING,
    POLICY,
    SUPERSEDED,
    SYNC_SECONDS,
    TRY_LATER,
    BrokenOrderError,
    Channel,
    Session,
)
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.stock import Stock
from kohakuriver.host.streams import Streams
from kohakuriver.store.models import NodeRow
from kohakuriver.store.write import update
from kohakuriver.wire import link

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

BATCH = 256
RETRY_SECONDS = 1.0
REFRESH_SECONDS = 0.5
FLUSH_SECONDS = 1.0
#: reports that nobody waits for: most are followed within this time by another, and one commit serves all of them
LINGERING = frozenset({"accepted", "started"})
LINGER_SECONDS = 0.02
#: attempts that a node may say it holds; a runner takes no more work long before
MOST_HELD = 200_000


@dataclass(kw_only=True)
class Links:
    """Every connected runner. `woken` is called when a node came or went, `returned` with what a node holds before it
    is told what is wanted, answered with wishes for what the host has gone on without, `held` with the same once it is
    live, `ended` with reports after their commit.
    """

    settings: HostSettings
    cluster: str
    incarnation: int
    clock: Clock
    ids: Ids
    commits: Commits
    changes: Changes
    dispatch: Dispatch
    reports: Reports
    stock: Stock
    streams: Streams
    preparing: Preparing
    woken: Callable[[], None]
    returned: Callable[[Member, Sequence[link.Held]], Coroutine[None, None, list[link.Wish]]]
    ended: Callable[[Member, Sequence[link.Report]], Coroutine[None, None, None]]
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
                    await self._blame(member, session.unreadable + CLOSED)
                except KohakuRiverError as error:
                    log.warning("a session cannot go on: %s", error, extra={"action": "link", "node": member.name})
                    session.end(TRY_LATER, "the host cannot store anything now")
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
        hello = await _in_time(session.receive(), HELLO_SECONDS)
        if not isinstance(hello, link.Hello):
            raise BrokenOrderError("the first message is hello")
        refused = self._refuse(hello, member)
        if refused is not None:
            session.send(refused)
            session.end(POLICY, refused.code)
            return None
        broken = fault(hello.cells)
        if broken is not None:
            raise BrokenOrderError(broken)
        self._supersede(session, member)
        session.id, session.epoch = hello.session[:64], hello.epoch
        session.leases = link.LEASE in hello.features
        await self.stock.greet(hello, member)
        member.skew = _skew(hello.clock, self.clock.now())
        session.send(
            link.Welcome(
                features=[link.LEASE],
                version=__version__,
                cluster=self.cluster,
                incarnation=self.incarnation,
                session=hello.session,
                node=member.name,
                heartbeat_seconds=self.settings.heartbeat,
                acknowledged=member.acknowledged,
            )
        )
        held = await _in_time(_inventory(session), SYNC_SECONDS)
        gone_on = await self.returned(member, held)
        if session.ended or member.session is not session:
            return None
        for page in self.dispatch.wanted_set(member, held):
            session.send(page)
        for at in range(0, len(gone_on), link.PAGE):
            session.send(link.WantedSet(wishes=gone_on[at : at + link.PAGE]))
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
            self.streams.link_lost(member.id)

    async def _live(self, session: Session, member: Member, held: list[link.Held], group: asyncio.TaskGroup) -> None:
        session.live = True
        member.heard = self.clock.monotonic()
        log.info("node is online", extra={"action": "link_live", "node": member.name})
        self.dispatch.assign_missing(member, held)
        self.changes.publish("node", member.id)
        self.woken()
        waiting: asyncio.Queue[link.Report] = asyncio.Queue(MOST_WAITING)
        newest: asyncio.Queue[link.Refresh] = asyncio.Queue(1)
        helpers = [group.create_task(self._take_reports(session, member, waiting))]
        helpers.append(group.create_task(self._take_refreshes(session, member, newest)))
        helpers.append(group.create_task(self.held(member, held)))
        try:
            while (message := await session.receive()) is not None and not session.ended:
                self._handle(member, message, waiting, newest)
                if isinstance(message, link.Heartbeat) and message.number and session.leases:
                    # the node's silence counts from here on, so its leases may count from what it sent before
                    session.send(link.Renew(number=message.number))
        finally:
            for helper in helpers:
                helper.cancel()

    def _handle(
        self,
        member: Member,
        message: link.FromRunner,
        waiting: asyncio.Queue[link.Report],
        newest: asyncio.Queue[link.Refresh],
    ) -> None:
        member.heard = self.clock.monotonic()
        if not isinstance(message, link.Report):
            _check_pace(member)
        match message:
            case link.Report():
                if waiting.full():
                    raise BrokenOrderError(f"more than {MOST_WAITING} reports without an acknowledgement")
                waiting.put_nowait(message)
            case link.Heartbeat():
                self._beat(member, message)
            case link.Progress():
                self.preparing.take(member.id, message.attempt, message.note)
                self.changes.publish("progress", message.attempt[:40])
            case link.DialFailed():
                self.streams.refused(message.ticket, member.id, message.reason)
            case link.Refresh():
                broken = fault(message.cells)
                if broken is not None:
                    raise BrokenOrderError(broken)
                if newest.full():  # only the newest counts
                    newest.get_nowait()
                newest.put_nowait(message)
            case _:
                raise BrokenOrderError("hello and inventory come once, at the beginning")

    def _beat(self, member: Member, beat: link.Heartbeat) -> None:
        now = self.clock.now()
        member.beat = beat
        member.use.take(beat, self.clock.monotonic())
        member.skew = _skew(beat.at, now)
        last = member.history[-1][0] if member.history else None
        if last is None or now - last >= timedelta(seconds=self.settings.heartbeat / 2):
            member.history.append((now, beat))

    async def _take_reports(self, session: Session, member: Member, waiting: asyncio.Queue[link.Report]) -> None:
        """Commits reports in batches and acknowledges them, until a newer session takes over. A store that cannot write
        now is tried again.
        """
        while member.session is session:
            batch = await _batch(waiting)
            while member.session is session:
                try:
                    session.send(link.Ack(seq=await self.reports.take(member, session.epoch, batch)))
                    await self.ended(member, batch)
                    if member.conduct.misbehaves(self.clock.monotonic()):
                        await self._blame(member, 0)
                except KohakuRiverError as error:
                    log.warning("reports wait: %s", error, extra={"action": "reports_wait", "node": member.name})
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                break

    async def _take_refreshes(self, session: Session, member: Member, newest: asyncio.Queue[link.Refresh]) -> None:
        """Takes over how the machine changed, until a newer session takes over; not faster than a store likes it."""
        while True:
            refresh = await newest.get()
            if member.session is not session:
                return
            await self.stock.refresh(refresh, member)
            await asyncio.sleep(REFRESH_SECONDS)

    async def _blame(self, member: Member, count: int) -> None:
        """Counts violations; a node with too many of them gets no new work until an operator looked at it."""
        now = self.clock.monotonic()
        member.conduct.fault(now, count)
        if member.quarantine is not None or not member.conduct.misbehaves(now):
            return
        member.quarantine = MISBEHAVED
        log.warning("a node is quarantined", extra={"action": "quarantine", "node": member.name})
        event = records.event(
            self.ids.next(), self.clock.now(), "node_quarantined", Cause(actor="the link"), node=member.id,
            detail={"name": member.name, "reason": MISBEHAVED},
        )  # fmt: skip
        statement = update(NodeRow, where={"id": member.id}, set={"quarantine": MISBEHAVED})
        try:
            await self.commits.write([statement, *records.events([event])], self.woken)
        except KohakuRiverError as error:
            # it holds in memory, and the next violation after a restart says it again
            log.warning("a quarantine was not stored: %s", error, extra={"action": "quarantine", "node": member.name})
        self.changes.publish("node", member.id)

    def _left(self, session: Session, member: Member) -> None:
        if member.session is not session:
            return
        member.session = None
        self.streams.link_lost(member.id)
        self.changes.publish("node", member.id)
        self.woken()


def _check_pace(member: Member) -> None:
    """Raises BrokenOrderError for what no runner says so fast; others wait for their turn meanwhile."""
    try:
        member.conduct.messages.take("", member.heard or 0.0)
    except TooMany:
        raise BrokenOrderError("more messages than a runner has to say") from None


async def _in_time(answer: Coroutine[None, None, Answer], seconds: float) -> Answer:
    """What the runner says next. Raises BrokenOrderError when it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise BrokenOrderError(f"nothing came within {seconds:g} s") from None


async def _batch(waiting: asyncio.Queue[link.Report]) -> list[link.Report]:
    """The next reports, as many as have come; after those that nobody waits for, a moment for what follows them."""
    batch = [await waiting.get()]
    lingering = batch[0].what in LINGERING
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while len(batch) < BATCH and (lingering or not waiting.empty()):
                batch.append(await waiting.get())
                lingering = lingering and batch[-1].what in LINGERING
    except TimeoutError:
        pass
    return batch


async def _inventory(session: Session) -> list[link.Held]:
    held: list[link.Held] = []
    while True:
        page = await session.receive()
        if not isinstance(page, link.Inventory):
            raise BrokenOrderError("after hello comes the inventory")
        held += page.held
        if len(held) > MOST_HELD:
            raise BrokenOrderError(f"an inventory has at most {MOST_HELD} entries")
        if page.last:
            return held


def _skew(clock: datetime | None, now: datetime) -> float | None:
    """Seconds that the node's clock is ahead."""
    if clock is None:
        return None
    told = clock if clock.tzinfo is not None else clock.replace(tzinfo=UTC)
    return (told - now).total_seconds()
