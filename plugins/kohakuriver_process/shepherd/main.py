"""Starts the shepherd: a daemon of its own session, one per state directory.

    python -I -S -c "…; main()" <state> <boot id> <idle seconds> plain|delegated

Returns when the socket listens. If another shepherd has the directory, returns as well and changes nothing.
"""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH108, PTH110

import contextlib
import ctypes
import fcntl
import os
import resource
import secrets
import signal
import sys
import time

from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.frames import PROTOCOL, Message
from kohakuriver_process.shepherd.herd import Herd
from kohakuriver_process.shepherd.loop import Loop
from kohakuriver_process.shepherd.peers import Listener

SOCKET = "shepherd.sock"
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
IDLE_TURN = 1.0


def main() -> None:
    """Becomes a daemon and serves until nothing is held and nobody has been connected for a while."""
    state, boot, idle, delegated = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] == "delegated"
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else 1)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    os.close(reader)
    _settle(state)
    lock = os.open("shepherd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(writer, b"!")
        return
    _serve(state, boot, idle, delegated, writer)


def _settle(state: str) -> None:
    """A daemon's surroundings: standard streams, signals as they were born, the state directory below it."""
    os.chdir(state)
    os.umask(0o077)
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open("shepherd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, nothing), (2, errors)):
        os.dup2(source, target)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NAME, b"kohaku-shepherd", 0, 0, 0)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the subreaper")


def _serve(state: str, boot: str, idle: float, delegated: bool, writer: int) -> None:
    scope = groups.settle() if delegated else None
    loop = Loop()
    identity = secrets.token_hex(6)
    herd = Herd(loop, state, identity, boot)
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    hello: Message = {"protocol": PROTOCOL, "shepherd": identity, "pid": os.getpid(), "boot": boot}
    itself = tree.look(os.getpid())
    hello["start"] = itself.start if itself is not None else 0
    if scope is not None:
        hello |= {"tree": scope, "controllers": groups.enabled(scope)}
    listener = Listener(loop, SOCKET, herd, hello)
    loop.on_signal(signal.SIGCHLD, herd.reap)
    leaving = Leaving(loop, herd, listener, idle)
    loop.on_signal(signal.SIGTERM, leaving.asked)
    for number in (signal.SIGHUP, signal.SIGINT):
        loop.on_signal(number, lambda: None)
    os.write(writer, b"!")
    os.close(writer)
    loop.run()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)


class Leaving:
    """Decides when the shepherd may go: unused for a while, or, once nothing runs, asked to or unreachable."""

    def __init__(self, loop: Loop, herd: Herd, listener: Listener, idle: float) -> None:
        self._loop = loop
        self._herd = herd
        self._listener = listener
        self._idle = idle
        self._used = time.monotonic()
        self._asked = False
        self._look()

    def asked(self) -> None:
        """SIGTERM, as at the shutdown of the machine: goes as soon as nothing runs."""
        self._asked = True
        if not self._herd.running:
            self._loop.stop()

    def _look(self) -> None:
        now = time.monotonic()
        if self._herd.bodies or self._listener.peers:
            self._used = now
        unreachable = not os.path.exists(SOCKET)  # somebody deleted the state directory
        if now - self._used >= self._idle or ((self._asked or unreachable) and not self._herd.running):
            self._loop.stop()
        self._loop.after(min(IDLE_TURN, self._idle), self._look)
