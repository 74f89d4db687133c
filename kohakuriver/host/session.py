"""One runner's session on the link: order of messages, one writer, and a reader that never waits for a handler.

Knows no HTTP: `web/sockets/link.py` hands it a channel. What messages mean is `link.py`'s.
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

from kohakuriver.errors import KohakuRiverError
from kohakuriver.wire import codec, link

log = logging.getLogger(__name__)

GOING_AWAY = 1001
SUPERSEDED = 4000
POLICY = 1008
TRY_LATER = 1013
MOST_UNREADABLE = 100
#: reports that a runner may have sent without an acknowledgement; twice what wire.md allows it
MOST_WAITING = 512
HELLO_SECONDS = 10.0
SYNC_SECONDS = 15.0


class Channel(Protocol):
    """A WebSocket, seen from here."""

    async def receive(self) -> bytes | None:
        """The next message; None when the other side is gone."""

    async def send(self, data: bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class BrokenOrderError(Exception):
    """The runner did not keep to wire.md §4; the text is the reason that it is told."""


class Session:
    """A connected runner. `send` never waits; what cannot be sent any more is dropped: the next session asks anew."""

    def __init__(self, channel: Channel, node: int) -> None:
        self._channel = channel
        self._first: deque[bytes] = deque()
        self._then: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._code, self._reason = GOING_AWAY, ""
        self._unreadable = 0
        self.node = node
        self.id = ""
        #: life of the journal that its reports count in
        self.epoch = 0
        #: set when hello, inventory and wanted set are through
        self.live = False
        #: whether its runner knows leases
        self.leases = False

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def unreadable(self) -> int:
        """Messages that could not be read."""
        return self._unreadable

    @property
    def backlog(self) -> int:
        """Messages that wait to be sent."""
        return len(self._first) + len(self._then)

    def send(self, message: link.Message) -> None:
        """Queues a message: acknowledgements and dials before wishes and assignments."""
        if self._ended:
            return
        first = isinstance(message, link.Ack | link.Dial | link.Welcome | link.Refused)
        (self._first if first else self._then).append(codec.encode(message))
        self._wake.set()

    async def receive(self) -> link.FromRunner | None:
        """The next readable message; None at the end. Unknown and unreadable ones are answered and skipped.

        Raises BrokenOrderError after 100 messages that could not be read.
        """
        while (data := await self._channel.receive()) is not None:
            try:
                message: link.FromRunner = codec.decode(data, link.FromRunner, most=link.MOST_MESSAGE)
            except KohakuRiverError as error:
                self._unreadable += 1
                if self._unreadable >= MOST_UNREADABLE:
                    raise BrokenOrderError("too many messages that cannot be read") from None
                self.send(link.Unsupported(message=f"{_tag(data)}: {error}"[:200]))
                continue
            if isinstance(message, link.Unsupported):
                log.info("a runner did not understand us", extra={"action": "link", "what": message.message[:200]})
                continue
            return message
        return None

    async def write(self) -> None:
        """Sends what is queued until the session ends, then closes the socket. Started once, beside the reader."""
        while True:
            while self._first or self._then:
                data = self._first.popleft() if self._first else self._then.popleft()
                await self._channel.send(data)
            if self._ended:
                break
            self._wake.clear()
            await self._wake.wait()
        await self._channel.close(self._code, self._reason)

    def end(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """No more is queued; what waits is sent and the socket closed. Only the first call counts."""
        if self._ended:
            return
        self._ended, self._code, self._reason = True, code, reason
        self.live = False
        self._wake.set()


def _tag(data: bytes) -> str:
    try:
        value = codec.decode(data[: link.MOST_MESSAGE], dict[str, object])
    except KohakuRiverError:
        return "unreadable"
    return str(value.get("t", "untagged"))[:40]
