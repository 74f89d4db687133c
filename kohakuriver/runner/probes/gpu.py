"""The cards of this node, asked in a thread of their own that may hang; all others wait with a deadline."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from kohakuriver.runner.probes.cards import Memory, Reading
from kohakuriver.runner.probes.nvml import Session
from kohakuriver.runner.probes.reading import Missing

log = logging.getLogger(__name__)

#: how long one look at all cards may take before others go on without it
LOOK_SECONDS = 2.0

Answer = Reading | Missing
Look = Callable[[], Answer]


class Gpus:
    """What NVML says of the cards. `reading` is its last whole answer, `told` whether it answered the last time."""

    def __init__(self, begin: Callable[[], Session] = Session) -> None:
        self.reading = Reading()
        self.told = False
        self._begin = begin
        self._session: Session | None = None
        self._memory = Memory()
        self._looks: SimpleQueue[tuple[Future[Answer], Look] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending: Future[Answer] | None = None
        self._since = 0.0

    async def look(self, limit: float = LOOK_SECONDS) -> Reading:
        """Asks every card, and waits for so many seconds. Raises Missing with the reason when there is no answer.

        While an older question hangs no new one is asked; its answer is taken when it comes.
        """
        if self._pending is None:
            self._pending = self._ask(self._pass)
            await asyncio.wait({asyncio.wrap_future(self._pending)}, timeout=limit)
        if not self._pending.done():
            self.told = False
            hangs = time.monotonic() - self._since
            doing = self._session.doing if self._session is not None else "nvmlInit"
            raise Missing(f"NVML has not answered for {hangs:.0f} s ({doing})")
        answer, self._pending = self._pending.result(), None
        self.told = isinstance(answer, Reading)
        if isinstance(answer, Missing):
            raise answer
        self.reading = answer
        return answer

    def close(self) -> None:
        """Lets the driver go as soon as nothing is being asked; waits for nothing. May be called twice."""
        if self._thread is not None:
            self._ask(self._end)
            self._looks.put(None)
            self._thread = None

    def _ask(self, look: Look) -> Future[Answer]:
        if self._thread is None:
            # a daemon: one that hangs in the driver must not hold up the end of this process
            self._thread = threading.Thread(target=self._work, name="nvml", daemon=True)
            self._thread.start()
        asked: Future[Answer] = Future()
        self._since = time.monotonic()
        self._looks.put((asked, look))
        return asked

    def _work(self) -> None:
        while (item := self._looks.get()) is not None:
            asked, look = item
            try:
                answer = look()
            except Exception as error:  # whoever asked is told, and the cards are asked anew
                log.exception("the cards cannot be read", extra={"action": "nvml"})
                self._session = None
                answer = Missing(f"the cards cannot be read: {str(error) or type(error).__name__}")
            asked.set_result(answer)

    def _pass(self) -> Answer:
        """In the thread. A driver that went away is begun anew by the next pass."""
        try:
            self._session = self._session or self._begin()
            return self._memory.take(self._session.read())
        except Missing as error:
            self._end()
            return error

    def _end(self) -> Answer:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        return Missing("the cards are not asked any more")
