"""One thread, one epoll: readiness of descriptors, timers, and the death of children."""

import contextlib
import heapq
import itertools
import os
import select
import signal
import time
import traceback
from collections.abc import Callable

Ready = Callable[[int], None]
IN = select.EPOLLIN
OUT = select.EPOLLOUT
#: a wait is never longer than this, so that idleness is noticed
LONGEST = 5.0


class Timer:
    """A call in the future; cancel() makes it nothing."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Calls what is ready until stop() is called."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._masks: dict[int, int] = {}
        self._last: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._going = True

    def watch(self, fd: int, mask: int, ready: Ready) -> None:
        """Calls `ready(events)` while the descriptor is; again for the same descriptor to change it."""
        if fd not in self._ready:
            self._epoll.register(fd, mask)
        elif self._masks[fd] != mask:
            self._epoll.modify(fd, mask)
        self._ready[fd] = ready
        self._masks[fd] = mask

    def unwatch(self, fd: int) -> None:
        """Forgets the descriptor; to be called before it is closed."""
        if self._ready.pop(fd, None) is not None:
            del self._masks[fd]
            self._epoll.unregister(fd)

    def at_last(self, call: Callable[[], None]) -> None:
        """Calls once everything of this turn is done."""
        self._last.append(call)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def on_signal(self, number: signal.Signals, call: Callable[[], None]) -> None:
        """Calls when the signal came, outside the handler; several may be told once."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def told(_events: int) -> None:
            os.read(reader, 4096)
            call()

        def handler(_number: int, _frame: object) -> None:
            try:
                os.write(writer, b"!")
            except BlockingIOError:
                return

        self.watch(reader, IN, told)
        signal.signal(number, handler)

    def stop(self) -> None:
        self._going = False

    def run(self) -> None:
        while self._going:
            self.turn()

    def turn(self) -> None:
        """One pass: what is due, then what is ready."""
        try:
            events = self._epoll.poll(self._patience())
        except InterruptedError:
            events = []
        for fd, mask in events:
            ready = self._ready.get(fd)
            if ready is not None:
                _guarded(lambda ready=ready, mask=mask: ready(mask))  # type: ignore[misc]
        self._call_due()
        while self._last:
            last, self._last = self._last, []
            for call in last:
                _guarded(call)

    def _patience(self) -> float:
        if not self._timers:
            return LONGEST
        return max(0.0, min(LONGEST, self._timers[0][0] - time.monotonic()))

    def _call_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                _guarded(call)


def _guarded(call: Callable[[], None]) -> None:
    """One failure must not end the shepherd, for every exit code that it keeps would be lost."""
    try:
        call()
    except Exception:  # noqa: BLE001 -- whoever reads shepherd.log is told
        with contextlib.suppress(OSError):  # the disk of the log may be full
            traceback.print_exc()
