"""A command on a terminal of its own, with somebody who types and reads: a real pty that is its controlling terminal."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from .serving import PROGRAM, ROOT, STOP

PATIENCE = 60.0


class Tty:
    """The person's side of it."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        self._descriptor = descriptor
        self.process = process
        #: what was printed and not yet expected
        self.printed = b""

    def type(self, text: str) -> None:
        """Keys, as they are: a line ends with a carriage return."""
        os.write(self._descriptor, text.encode())

    def expect(self, wanted: bytes) -> bytes:
        """What is printed up to these bytes and with them, each byte once."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.printed:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            more = self._read() if ready else b""
            assert more, f"no {wanted!r} within {PATIENCE:g} s, or before its end: {self.printed!r}"
            self.printed += more
        before, found, self.printed = self.printed.partition(wanted)
        return before + found

    def resize(self, columns: int, rows: int) -> None:
        """As a window does."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """The exit code, once the command has ended by itself."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            ready, _, _ = select.select([self._descriptor], [], [], 0.05)
            self.printed += self._read() if ready else b""
        return self.process.wait(timeout=STOP)

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:  # nobody has the other side any more (pty(7))
            return b""


@contextmanager
def on_a_terminal(words: Sequence[str], env: Mapping[str, str], *, columns: int = 100, rows: int = 30) -> Iterator[Tty]:
    """A `kohakuriver` command on a terminal; killed afterwards if it still runs."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            ["setsid", "--ctty", *PROGRAM, *words],
            cwd=ROOT, env={**env, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
    finally:
        os.close(theirs)
    try:
        yield Tty(ours, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(timeout=STOP)
        os.close(ours)
