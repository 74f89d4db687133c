"""One session of the link (contrib/notes/wire.md §4-§7): a reader that awaits no handler, a writer with an order.

Knows nothing of what messages do: it hands them over and says how the session ended.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from kohakuriver.errors import KohakuRiverError
from kohakuriver.runner.clock import Clock
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.lease import Lease
from kohakuriver.wire import codec
from kohakuriver.wire.link import (
    DEAD_SECONDS,
    MOST_MESSAGE,
    PAGE,
    PING_SECONDS,
    Ack,
    Assign,
    Dial,
    Envelope,
    Forget,
    FromHost,
    FromRunner,
    Heartbeat,
    Hello,
    Inventory,
    Message,
    Progress,
    Refused,
    Renew,
    Report,
    Unsupported,
    WantedSet,
    Welcome,
)

log = logging.getLogger(__name__)

MOST_UNREADABLE = 100
LONGEST_NOTE = 200
#: acknowledgements of so long are one change of the journal
GATHER_SECONDS = 0.05
#: from the first word to live
SETTLE_SECONDS = 35.0
TAGS = frozenset(kind.__struct_config__.tag for kind in FromHost.__args__)

Order = Assign | WantedSet | Forget | Dial


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a session ended. `wait`: the least seconds before the next one, if the reason asks for it."""

    reason: str
    final: bool = False
    wait: float | None = None


class _Over(Exception):
    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.ended = ended


class Session:
    """Lives as long as its socket."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        journal: Journal,
        clock: Clock,
        *,
        hello: Hello,
        order: Callable[[Order], None],
        unreadable_assign: Callable[[str, str], None],
        lease: Lease,
    ) -> None:
        self.live = asyncio.Event()
        self.welcome: Welcome | None = None
        self._socket = socket
        self._journal = journal
        self._clock = clock
        self._hello = hello
        self._order = order
        self._unreadable_assign = unreadable_assign
        self._lease = lease
        self._beats = 0
        self._control: deque[tuple[aiohttp.WSMsgType, bytes]] = deque()
        self._greeting: deque[FromRunner] = deque()
        self._urgent: deque[FromRunner] = deque()
        self._progress: dict[str, str] = {}
        self._heartbeat: Heartbeat | None = None
        self._wake = asyncio.Event()
        self._acked = asyncio.Event()
        self._acknowledged = 0
        self._heard = clock.boot()
        self._unreadable = 0

    async def run(self) -> Ended:
        """Speaks until the socket ends or one side gives up. Cancelling it closes the socket."""
        ended = Ended(reason="the link ended")
        try:
            async with asyncio.TaskGroup() as group:
                self._lease.greeted()
                self.send(self._hello)
                for loop in (self._write, self._ping, self._acknowledge, self._settle):
                    group.create_task(loop())
                await self._read(group)
        except* _Over as over:
            ended = over.exceptions[0].ended if isinstance(over.exceptions[0], _Over) else ended
        except* (aiohttp.ClientError, OSError) as broken:
            ended = Ended(reason=f"the link broke: {broken.exceptions[0]}")
        finally:
            self._journal.outbox.wake = self._idle
        return ended

    def send(self, message: FromRunner) -> None:
        """Queues a message that is not a report; all but the greeting waits until the session is live. Heartbeats and
        progress notes are conflated.
        """
        if isinstance(message, Heartbeat):
            self._heartbeat = message
        elif isinstance(message, Progress):
            self._progress[message.attempt] = message.note[:LONGEST_NOTE]
        elif isinstance(message, Hello | Inventory):
            self._greeting.append(message)
        else:
            self._urgent.append(message)
        self._wake.set()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            frame = await self._socket.receive()
            self._heard = self._clock.boot()
            match frame.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    self._take(frame.data, group)
                case aiohttp.WSMsgType.PING:
                    self._control.append((aiohttp.WSMsgType.PONG, bytes(frame.data)))
                    self._wake.set()
                case aiohttp.WSMsgType.PONG:
                    pass
                case _:
                    raise _Over(Ended(reason="the host closed the link"))

    def _take(self, data: str | bytes, group: asyncio.TaskGroup) -> None:
        try:
            message = codec.decode(data, FromHost, most=MOST_MESSAGE)
        except KohakuRiverError as error:
            self._cannot_read(data, error)
            return
        if isinstance(message, Refused):
            raise _Over(_refused(message))
        if isinstance(message, Welcome):
            if self.welcome is not None:
                raise _Over(Ended(reason="the host welcomed this session twice"))
            self.welcome = message
            group.create_task(self._greet(message))
        elif isinstance(message, Unsupported):
            log.warning("the host does not know a message", extra={"kind": message.message})
        elif self.welcome is None:
            raise _Over(Ended(reason=f"the host sent {type(message).__name__} before its welcome"))
        elif isinstance(message, Ack):
            self._take_ack(message)
        elif isinstance(message, Renew):
            group.create_task(self._lease.renewed(message.number))
        else:
            self._order(message)
            if isinstance(message, WantedSet) and message.complete:
                group.create_task(self._go_live())

    async def _go_live(self) -> None:
        await self._lease.live()
        self.live.set()
        self._wake.set()

    def _take_ack(self, message: Ack) -> None:
        if message.seq > self._journal.last_seq:
            raise _Over(Ended(reason=f"the host acknowledged report {message.seq}, which was never sent"))
        self._acknowledged = max(self._acknowledged, message.seq)
        self._acked.set()

    def _cannot_read(self, data: str | bytes, error: KohakuRiverError) -> None:
        """Answers what this runner does not know or cannot read, so that the host need not wait."""
        self._unreadable += 1
        if self._unreadable >= MOST_UNREADABLE:
            raise _Over(Ended(reason=f"{MOST_UNREADABLE} messages could not be read"))
        try:
            envelope = codec.decode(data, Envelope, most=MOST_MESSAGE)
        except KohakuRiverError:
            envelope = Envelope()
        known = envelope.t in TAGS
        log.warning("a message cannot be read", extra={"kind": envelope.t[:80], "error": error.message[:200]})
        if known and envelope.t == "assign" and envelope.attempt:
            self._unreadable_assign(envelope.attempt, error.message)
        text = f"{envelope.t}: {error.message}" if known else envelope.t
        self.send(Unsupported(message=text[:LONGEST_NOTE]))

    async def _greet(self, welcome: Welcome) -> None:
        """Checks who the host is before anything it says is obeyed, then tells what is held."""
        journal = self._journal
        if self._hello.cluster and welcome.cluster != self._hello.cluster:
            raise _Over(_foreign(f"the host is of cluster {welcome.cluster}, this runner of {self._hello.cluster}"))
        if welcome.incarnation < journal.incarnation:
            raise _Over(
                _foreign(
                    f"the host's incarnation {welcome.incarnation} is older than {journal.incarnation}, seen before"
                )
            )
        if welcome.incarnation > journal.incarnation > 0:
            await self._tell_restored()
        if (welcome.cluster, welcome.incarnation) != (journal.cluster, journal.incarnation):
            await journal.remember(cluster=welcome.cluster, incarnation=welcome.incarnation)
        if welcome.acknowledged > journal.last_seq:
            await journal.renew(journal.epoch + 1)
            raise _Over(Ended(reason="the host knows later reports than this journal; a new epoch begins"))
        await journal.acknowledge(welcome.acknowledged)
        journal.outbox.rewind()
        journal.outbox.wake = self._wake.set
        self._tell_inventory()

    async def _tell_restored(self) -> None:
        """The host may not know of what was assigned after the copy that it was restored from: it is told what stands
        here, and whose it is. Said again when this process dies in between.
        """
        async with asyncio.TaskGroup() as group:
            for entry in self._journal.open_entries():
                now = self._clock.wall()
                report = Report(seq=0, attempt=entry.attempt, what="recovered", at=now, found=entry.facts())
                group.create_task(self._journal.report(report))

    def _tell_inventory(self) -> None:
        attempts = self._journal.attempts
        held = [attempts[name].held() for name in sorted(attempts)]
        pages = [held[at : at + PAGE] for at in range(0, len(held), PAGE)] or [[]]
        for page in pages[:-1]:
            self.send(Inventory(held=page, last=False))
        self.send(Inventory(held=pages[-1], last=True))

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            while await self._write_one():
                pass
            await self._wake.wait()

    async def _write_one(self) -> bool:
        """Sends the most urgent thing that waits; False when there is none."""
        if self._control:
            kind, data = self._control.popleft()
            await self._socket.send_frame(data, kind)
        elif self._greeting:
            await self._put(self._greeting.popleft())
        elif not self.live.is_set():
            return False
        elif self._urgent:
            await self._put(self._urgent.popleft())
        elif (line := self._journal.outbox.next()) is not None:
            payload = await self._journal.payload(line.seq)
            if payload is not None:
                await self._socket.send_frame(payload, aiohttp.WSMsgType.TEXT)
        elif self._progress:
            attempt = next(iter(self._progress))
            await self._put(Progress(attempt=attempt, note=self._progress.pop(attempt)))
        elif self._heartbeat is not None:
            beat, self._heartbeat = self._heartbeat, None
            self._beats += 1
            beat.number = self._beats
            self._lease.beat(beat.number)
            await self._put(beat)
        else:
            return False
        return True

    async def _put(self, message: Message) -> None:
        data = codec.encode(message)
        if len(data) > MOST_MESSAGE:
            log.error("a message is too large and was left out", extra={"kind": type(message).__name__})
            return
        await self._socket.send_frame(data, aiohttp.WSMsgType.TEXT)

    async def _ping(self) -> None:
        while (left := self._heard + DEAD_SECONDS - self._clock.boot()) > 0:
            await self._clock.sleep(min(PING_SECONDS, left))
            self._control.append((aiohttp.WSMsgType.PING, b""))
            self._wake.set()
        raise _Over(Ended(reason=f"nothing heard from the host for {DEAD_SECONDS:g} s"))

    async def _acknowledge(self) -> None:
        while True:
            await self._acked.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._acked.clear()
            await self._journal.acknowledge(self._acknowledged)

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.live.wait()
        except TimeoutError:
            raise _Over(Ended(reason="the host did not finish its greeting")) from None

    def _idle(self) -> None:
        """No session: reports wait in the journal."""


def _refused(message: Refused) -> Ended:
    slow = {"version": 60.0, "superseded": DEAD_SECONDS}.get(message.code)
    return Ended(reason=f"refused ({message.code}): {message.reason}", final=message.final, wait=slow)


def _foreign(reason: str) -> Ended:
    return Ended(reason=f"{reason}; join this node again if that is meant", wait=60.0)
