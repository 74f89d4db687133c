"""The socket of the shepherd and the connections on it. Only the runner's own user and root are heard."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH101

import os
import socket
import struct
from collections.abc import Callable

from kohakuriver_process.shepherd.frames import BadFrame, Message, Unpacker, pack
from kohakuriver_process.shepherd.herd import Herd, Refused
from kohakuriver_process.shepherd.loop import IN, OUT, Loop

ONE_READ = 256 * 1024


class Peer:
    """One connection. What it does not take is kept until it does: it only gets what it asked for."""

    def __init__(self, loop: Loop, sock: socket.socket, herd: Herd, gone: Callable[["Peer"], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._herd = herd
        self._gone = gone
        self._unpacker = Unpacker()
        self._out = bytearray()
        self._open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), IN, self._ready)

    def send(self, message: Message, blob: bytes = b"") -> None:
        """Sends, now or when the other side reads; nothing when it has gone."""
        if not self._open:
            return
        idle = not self._out
        self._out += pack(message, blob)
        if idle:  # what follows in the same turn goes with it
            self._loop.at_last(self._flush)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._gone(self)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if self._open and events & ~OUT:
            self._hear()

    def _hear(self) -> None:
        try:
            data = self._sock.recv(ONE_READ)
            messages = self._unpacker.feed(data)
        except BlockingIOError:
            return
        except (OSError, BadFrame):
            data, messages = b"", []
        for message, _ in messages:
            self._obey(message)
        if not data:
            self.close()

    def _obey(self, message: Message) -> None:
        number = message.get("id")

        def reply(answer: Message, blob: bytes) -> None:
            self.send({**answer, "id": number}, blob)

        try:
            self._herd.orders(message, reply)
        except Refused as refused:
            self.send({"id": number, "error": str(refused)})
        except (KeyError, TypeError, ValueError) as error:
            self.send({"id": number, "error": f"the order is not understood: {error!r}"})
        except OSError as error:
            self.send({"id": number, "error": f"{error.strerror}: {error.filename or ''}".lower()})

    def _flush(self) -> None:
        if not self._open or not self._out:
            return
        try:
            sent = self._sock.send(self._out, socket.MSG_NOSIGNAL)  # a runner that is gone is no reason to die of
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._out[:sent]
        self._loop.watch(self._sock.fileno(), IN | OUT if self._out else IN, self._ready)


class Listener:
    """Takes connections on the socket of the state directory."""

    def __init__(self, loop: Loop, path: str, herd: Herd, hello: Message) -> None:
        self.peers: set[Peer] = set()
        self._loop = loop
        self._herd = herd
        self._hello = hello
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(path)
        os.chmod(path, 0o600)
        self._sock.listen(64)
        self._sock.setblocking(False)
        loop.watch(self._sock.fileno(), IN, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.getuid()):
            sock.close()
            return
        peer = Peer(self._loop, sock, self._herd, self.peers.discard)
        self.peers.add(peer)
        peer.send(self._hello)
