"""A TCP proxy between runner and host that fails on purpose: connections by bytes, the link by single messages.

Knows as much of RFC 6455 as it takes to cut a plain connection to /link into messages; forwards their bytes as they came.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from .cluster import Cluster

Way = Literal["up", "down"]  # up: runner to host
Verdict = Literal["pass", "drop", "double", "cut"]
Message = dict[str, Any]

ONE_READ = 256 * 1024


@dataclass(eq=False)
class Rule:
    """What happens to messages of one kind. `times` of them; None: all. Each is counted and noted in `seen`."""

    tag: str
    way: Way
    action: Verdict | Literal["delay", "stall"]
    times: int | None = None
    seconds: float = 0.0
    matches: Callable[[Message], bool] = lambda _: True
    seen: list[Message] = field(default_factory=list)
    caught: threading.Event = field(default_factory=threading.Event)
    #: `stall`: everything on that way waits behind the message until this is set
    released: threading.Event = field(default_factory=threading.Event)

    def takes(self, way: Way, message: Message) -> bool:
        if way != self.way or message.get("t") != self.tag or (self.times is not None and len(self.seen) >= self.times):
            return False
        return self.matches(message)

    def wait_caught(self, within: float = 60.0) -> Message:
        assert self.caught.wait(within), f"no {self.tag} came within {within:g} s"
        return self.seen[0]


class FaultProxy:
    """Listens on a port of its own and forwards to the host. Every method may be called at any time."""

    def __init__(self, host: tuple[str, int], listen: str = "127.0.0.1") -> None:
        self._host = host
        self._listener = socket.create_server((listen, 0), backlog=128)
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._flows = {"up": threading.Event(), "down": threading.Event()}
        self._refuses = False
        self.rules: list[Rule] = []
        #: messages that went through, for those who want to know what was said
        self.heard: list[tuple[Way, Message]] = []
        #: is told of all bytes that come, for those who count
        self.tap: Callable[[Way, bytes], None] | None = None
        self.heal()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        name, port = self._listener.getsockname()[:2]
        return f"http://{name}:{port}"

    @property
    def open(self) -> int:
        """Connections that are open now, to both sides."""
        return len(self._connections)

    # faults of the whole line

    def blackhole(self, *ways: Way) -> None:
        """Bytes of these ways (both, without one) go nowhere until `heal`; connections stay open, new ones hang."""
        for way in ways or ("up", "down"):
            self._flows[way].clear()

    def cut(self) -> None:
        """Resets every connection and refuses new ones until `heal`."""
        self._refuses = True
        self.reset()

    def reset(self) -> None:
        """Resets every connection once."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.reset()

    def heal(self) -> None:
        """Everything passes again. What was black-holed is gone, so its connections are reset."""
        was_open = all(flow.is_set() for flow in self._flows.values())
        self._refuses = False
        if not was_open:
            self.reset()
        for flow in self._flows.values():
            flow.set()

    # faults of single messages

    def rule(self, action: str, tag: str, way: Way, **fields: Any) -> Rule:
        """Puts a rule before the others and returns it; `withdraw` ends it."""
        rule = Rule(tag=tag, way=way, action=action, **fields)  # type: ignore[arg-type]
        self.rules.insert(0, rule)
        return rule

    def withdraw(self, rule: Rule) -> None:
        self.rules.remove(rule)
        rule.released.set()

    def judge(self, way: Way, message: Message) -> Verdict:
        """What to do with this message; waits here for those that are late."""
        for rule in list(self.rules):
            if not rule.takes(way, message):
                continue
            rule.seen.append(message)
            rule.caught.set()
            if rule.action == "delay":
                time.sleep(rule.seconds)
                return "pass"
            if rule.action == "stall":
                rule.released.wait()
                return "pass"
            return rule.action
        self.heard.append((way, message))
        return "pass"

    def flows(self, way: Way) -> bool:
        return self._flows[way].is_set()

    def close(self) -> None:
        for rule in self.rules:
            rule.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._refuses = True
        self.reset()
        self._thread.join(60)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        if self._refuses:
            _reset(near)
            return
        for flow in self._flows.values():
            while not flow.wait(0.2):  # as if its first packet were lost
                if self._refuses:
                    _reset(near)
                    return
        try:
            far = socket.create_connection(self._host, 5)
        except OSError:
            _reset(near)
            return
        far.settimeout(None)
        connection = _Connection(self, near, far)
        with self._lock:
            self._connections.add(connection)
        connection.run()
        with self._lock:
            self._connections.discard(connection)


@contextmanager
def behind_a_proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """Starts the host, and the node `one` that reaches it through the proxy."""
    cluster.start_host()
    proxy = FaultProxy(("127.0.0.1", cluster.port))
    try:
        cluster.add_runner("one", url=proxy.url)
        yield proxy
    finally:
        proxy.close()


class _Connection:
    def __init__(self, proxy: FaultProxy, near: socket.socket, far: socket.socket) -> None:
        self.proxy = proxy
        self.near = near
        self.far = far
        self.is_link = False
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        back = threading.Thread(target=self._pump, args=(self.far, self.near, "down"), daemon=True)
        back.start()
        self._pump(self.near, self.far, "up")
        back.join()
        for end in (self.near, self.far):
            end.close()

    def reset(self) -> None:
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        waiting = bytearray()
        head_done = False
        try:
            while data := source.recv(ONE_READ):
                if not self.proxy.flows(way):
                    continue
                if self.proxy.tap is not None:
                    self.proxy.tap(way, data)
                waiting += data
                if not head_done:
                    end = waiting.find(b"\r\n\r\n")
                    if end < 0:
                        continue
                    if way == "up":
                        self.is_link = waiting.startswith(b"GET /link ")
                    elif not waiting.startswith(b"HTTP/1.1 101"):
                        self.is_link = False  # it was turned away
                    head_done = True
                    sink.sendall(waiting[: end + 4])
                    del waiting[: end + 4]
                if self.is_link:
                    self._frames(waiting, sink, way)
                else:
                    sink.sendall(waiting)
                    waiting.clear()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.reset()

    def _frames(self, waiting: bytearray, sink: socket.socket, way: Way) -> None:
        """Forwards whole frames; what is not one yet stays."""
        while (frame := read_frame(waiting)) is not None:
            length, message = frame
            raw = bytes(waiting[:length])
            del waiting[:length]
            verdict = "pass" if message is None else self.proxy.judge(way, message)
            if verdict == "cut":
                raise OSError("cut here")
            if not self.proxy.flows(way):
                continue
            for _ in range({"pass": 1, "drop": 0, "double": 2}[verdict]):
                sink.sendall(raw)


def read_frame(data: bytearray) -> tuple[int, Message | None] | None:
    """Length of the first frame and its JSON if it is a message; None while it is not complete (RFC 6455, 5.2)."""
    if len(data) < 2:
        return None
    opcode, masked, length, at = data[0] & 15, data[1] & 128, data[1] & 127, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(data) < 2 + size:
            return None
        length, at = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    mask = bytes(data[at : at + 4]) if masked else b""
    at += len(mask)
    if len(data) < at + length or (masked and len(mask) < 4):
        return None
    if opcode not in (1, 2):
        return at + length, None
    payload = bytes(data[at : at + length])
    if masked:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return at + length, json.loads(payload)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
