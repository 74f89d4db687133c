"""The stream of one operation, in frames: what comes is handed out in order, what goes waits for who takes it.

Knows no operation.
"""

import asyncio
import contextlib
import logging
import select
from collections.abc import AsyncIterator

from kohakuriver.errors import Malformed
from kohakuriver.hooks.backend import Progress
from kohakuriver.runner.clock import Clock
from kohakuriver.wire import codec
from kohakuriver.wire.environments import OperationProgress
from kohakuriver.wire.frames import Kind, Reader, frame, frames

log = logging.getLogger(__name__)

MOST_READ = 256 * 1024
#: frames that wait for whoever takes them; then the other end waits
MOST_WAITING = 4
#: a peer that takes nothing for so long is gone; not so for a terminal, whose viewer may sleep
STALLED = 60.0
#: seconds between two words of progress, at least
PROGRESS_SECONDS = 0.2
#: seconds between two looks whether the peer is there while nobody takes what it sent
LOOK_SECONDS = 5.0
LONGEST_NOTE = 500


class Channel:
    """One stream. `pump`, `watch` and `tell` run beside the operation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self.stall: float | None = STALLED
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Kind, bytes]] = asyncio.Queue(MOST_WAITING)
        self._writing = asyncio.Lock()
        self._over = False
        self._news: OperationProgress | None = None
        self._woken = asyncio.Event()

    async def pump(self) -> None:
        """Takes what comes, and returns when the other end is gone or speaks another language."""
        reader = Reader()
        try:
            while data := await self._reader.read(MOST_READ):
                for one in reader.feed(data):
                    if not self._over:
                        await self._waiting.put(one)
        except Malformed as error:
            log.warning("a stream of an operation cannot be read", extra={"error": error.message})
        except OSError as error:
            log.info("a stream of an operation broke", extra={"error": str(error)})

    async def watch(self) -> None:
        """Returns when the other end is gone although `pump` waits, for nobody takes what came before."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if self._waiting.full() and hung_up(self._writer):
                return

    async def tell(self) -> None:
        """Sends progress, of quick changes the last."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            news, self._news = self._news, None
            if news is not None and not self._over:
                await self.send(Kind.PROGRESS, codec.encode(news))
            await self._clock.sleep(PROGRESS_SECONDS)

    def progress(self, note: str, done: int | None = None, total: int | None = None) -> None:
        """Has it told soon how far the operation is."""
        both = done is not None and total is not None and done >= 0 and total > 0
        self._news = OperationProgress(
            note=note[:LONGEST_NOTE], done=done if both else None, total=total if both else None
        )
        self._woken.set()

    async def frames(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """What comes, for ever: the operation is cancelled when the other end is gone."""
        while True:
            yield await self._waiting.get()

    async def data(self) -> AsyncIterator[bytes]:
        """The bytes of an upload, up to its end."""
        async for kind, payload in self.frames():
            if kind is Kind.END:
                return
            if kind is Kind.DATA:
                yield payload

    async def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Sends one frame; waits while the other end takes nothing. Raises OSError or TimeoutError when it is gone."""
        await self._put(frame(kind, payload))

    async def send_data(self, data: bytes) -> None:
        """Sends bytes in as many frames as they need."""
        for one in frames(Kind.DATA, data):
            await self._put(one)

    async def finish(self, kind: Kind, payload: bytes) -> None:
        """Sends the last frame; what still comes is thrown away."""
        self._over = True
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._waiting.get_nowait()
        await self.send(kind, payload)

    async def _put(self, data: bytes) -> None:
        async with self._writing:
            self._writer.write(data)
            async with asyncio.timeout(self.stall):
                await self._writer.drain()


def hung_up(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer has closed its end (poll(2), POLLRDHUP), also behind bytes that nobody has read yet."""
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def from_any_thread(call: Progress) -> Progress:
    """The same, to be called from threads too."""
    loop = asyncio.get_running_loop()

    def told(note: str, done: int | None = None, total: int | None = None) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
                loop.call_soon_threadsafe(call, note, done, total)
        else:
            call(note, done, total)

    return told
