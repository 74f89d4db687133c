"""A terminal on the other side of a raw stream: what is typed here goes there, what is printed there comes here.

One thread and one loop, because a TLS connection may not be read and written by two.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from kohakuriver.client.problems import failure_error
from kohakuriver.errors import Malformed, Unreachable
from kohakuriver.wire.frames import Kind, Reader, frame, frames, window

ONE_READ = 64 * 1024
#: bytes that may wait to be sent; more is not read from the keyboard before
MOST_WAITING = 256 * 1024
#: what a terminal's line discipline takes for the end of its input (termios(3), VEOF)
END_OF_INPUT = b"\x04"
#: raised by TLS where a plain socket would block
BLOCKED = (BlockingIOError, InterruptedError)


def size_of(descriptor: int) -> tuple[int, int]:
    """Columns and rows of the terminal behind the descriptor; 80 and 24 where there is none."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24


def relay(connection: socket.socket, early: bytes, *, stdin: int = 0, stdout: int = 1) -> int:
    """Joins this terminal with the one over there until its program ends; the program's exit code.

    `early` are bytes of the stream that came with the answer. A terminal as `stdin` is raw meanwhile, and as it was
    afterwards, whatever happens. Without one the end of the input is sent as Ctrl-D. Raises the error that the other
    side tells of, Unreachable when the connection breaks.
    """
    with _raw(stdin), _woken() as wakes:
        return _Relay(connection, stdin, stdout, wakes).run(early)


class _Relay:
    def __init__(self, connection: socket.socket, stdin: int, stdout: int, wakes: socket.socket) -> None:
        self._connection = connection
        self._stdin: int | None = stdin
        self._screen = stdout
        self._is_terminal = os.isatty(stdin)
        self._wakes = wakes
        self._waiting = bytearray()
        self._reader = Reader()
        self._code: int | None = None
        self._typed_last = b""

    def run(self, early: bytes) -> int:
        self._connection.setblocking(False)
        self._resized()
        self._take(early)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakes, selectors.EVENT_READ, self._woken)
            while self._code is None:
                self._send()
                self._listen(selector)
                for key, _ in selector.select(None if not self._pending() else 0):
                    if key.data is not None:
                        key.data()
                    if key.data == self._typed and self._stdin is None:
                        selector.unregister(key.fileobj)
                self._receive()
        return self._code

    def _listen(self, selector: selectors.BaseSelector) -> None:
        typing = self._stdin
        if typing is not None:
            _set(selector, typing, selectors.EVENT_READ if len(self._waiting) < MOST_WAITING else 0, self._typed)
            if self._stdin is None:  # it has ended just now
                _set(selector, typing, 0, None)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0)
        _set(selector, self._connection, events, None)

    def _pending(self) -> bool:
        """Whether TLS holds bytes that the socket will not tell of."""
        pending = getattr(self._connection, "pending", None)
        return bool(pending is not None and pending())

    def _typed(self) -> None:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, ONE_READ)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            # twice where the line is not empty: the first one only ends the line
            self._queue(END_OF_INPUT if self._typed_last in (b"", b"\n") else END_OF_INPUT * 2)
            self._waiting += frame(Kind.END)
            self._stdin = None
            return
        self._typed_last = data[-1:]
        self._queue(data)

    def _queue(self, data: bytes) -> None:
        for part in frames(Kind.DATA, data):
            self._waiting += part

    def _woken(self) -> None:
        with contextlib.suppress(*BLOCKED):
            while self._wakes.recv(64):
                self._resized()

    def _resized(self) -> None:
        columns, rows = size_of(self._screen)
        self._waiting += window(columns, rows)

    def _send(self) -> None:
        while self._waiting:
            try:
                sent = self._connection.send(self._waiting[:ONE_READ])
            except OSError as error:
                if _would_block(error):
                    return
                raise Unreachable("the connection to the terminal broke") from None
            del self._waiting[:sent]

    def _receive(self) -> None:
        try:
            data = self._connection.recv(ONE_READ)
        except OSError as error:
            if _would_block(error):
                return
            raise Unreachable("the connection to the terminal broke") from None
        if not data:
            raise Unreachable("the connection to the terminal was closed")
        self._take(data)

    def _take(self, data: bytes) -> None:
        for kind, payload in self._reader.feed(data):
            if kind is Kind.DATA:
                _write(self._screen, payload)
            elif kind is Kind.RESULT:
                self._code = int(_json(payload).get("code", 0))
            elif kind is Kind.ERROR:
                raise failure_error(_json(payload))


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal passes every key on, Ctrl-C too, and prints what it is given; afterwards it is as it was."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    old = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in old.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ends the command by way of every `finally`."""
    sys.exit(128 + number)


@contextlib.contextmanager
def _woken() -> Iterator[socket.socket]:
    """A socket that has a byte after each change of the window."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    old = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGWINCH, before)
        reading.close()
        writing.close()


def _set(selector: selectors.BaseSelector, file: Any, events: int, data: Callable[[], None] | None) -> None:
    known = selector.get_map().get(file)
    if known is None:
        if events:
            with contextlib.suppress(PermissionError):  # a plain file, which epoll does not take, is read at once
                selector.register(file, events, data)
                return
            if data is not None:
                data()
    elif not events:
        selector.unregister(file)
    elif known.events != events:
        selector.modify(file, events, data)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _would_block(error: OSError) -> bool:
    """TLS says it with errors of its own: SSLWantReadError, SSLWantWriteError."""
    return isinstance(error, BLOCKED) or type(error).__name__ in {"SSLWantReadError", "SSLWantWriteError"}


def _json(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        raise Malformed("the other side of the terminal said something that cannot be read") from None
    return found if isinstance(found, dict) else {}
