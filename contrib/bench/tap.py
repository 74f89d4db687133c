"""A TCP relay in front of the host that counts what a node gets through it. Knows of HTTP how a request for a content
begins, and no more.
"""

import re
import socket
import threading
from collections import Counter
from contextlib import suppress

ONE_READ = 1 << 18
ASKED = re.compile(rb"GET /node/blobs/(?:sha256:|sha256%3A)([0-9a-f]{64}) ")


class Tap:
    """One node's way to the host; `url` is where it dials."""

    def __init__(self, host: tuple[str, int]) -> None:
        self._host = host
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: bytes that came to the node, and how often it asked for each content
        self.bytes = 0
        self.contents: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no connection any more; those that are there end with their ends."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._host, timeout=10)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._up, args=(near, far), daemon=True).start()
                threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(ONE_READ):
                for digest in ASKED.findall(data):
                    self.contents[digest.decode()] += 1
                far.sendall(data)
        _end(far)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        data = memoryview(bytearray(ONE_READ))
        with suppress(OSError):
            while size := far.recv_into(data):
                self.bytes += size
                near.sendall(data[:size])
        _end(near)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_WR)
