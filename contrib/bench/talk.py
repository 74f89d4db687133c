"""HTTP/1.1 with one kept connection, as thin as can be, so that the client is not what is measured."""

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Talk:
    """The host at a URL. Each of its own calls is a connection; `connect` gives one to keep."""

    url: str
    token: str = ""

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, body)

    def submit(self, command: list[str], **fields: Any) -> list[str]:
        return list(self.post("/api/v1/tasks", {"command": command, "cores": 1, **fields})["tasks"])

    def until_ended(self, task: str) -> dict[str, Any]:
        """The task at its end."""
        while True:
            told = dict(self.get(f"/api/v1/tasks/{task}/wait?timeout=60"))
            if told["finished"] is not None:
                return told

    def connect(self) -> "Kept":
        return Kept(self.url, self.token)

    def _call(self, method: str, path: str, body: Any) -> Any:
        with self.connect() as kept:
            status, data = kept.ask(method, path, body)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {data[:500]!r}")
        return json.loads(data) if data else None


class Kept:
    """One blocking connection that is kept."""

    def __init__(self, url: str, token: str = "") -> None:
        self.host, self.port = place(url)
        self.token = token
        self._socket = socket.create_connection((self.host, self.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        return self.send(request(method, path, body, token=self.token, host=f"{self.host}:{self.port}"))

    def send(self, data: bytes) -> tuple[int, bytes]:
        """Sends a whole request and reads its answer."""
        self._socket.sendall(data)
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, rest = self._data.partition(b"\r\n\r\n")
        status, length = read_head(head)
        self._data = rest
        while len(self._data) < length:
            self._more()
        answer, self._data = self._data[:length], self._data[length:]
        return status, answer

    def _more(self) -> None:
        got = self._socket.recv(1 << 18)
        if not got:
            raise ConnectionError("the host closed the connection")
        self._data += got


class Loose:
    """One asynchronous connection that is kept."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.place = self._host, self._port = place(talk.url)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 22)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        return await self.send(request(method, path, body, token=self._talk.token, host=f"{self._host}:{self._port}"))

    async def send(self, data: bytes) -> tuple[int, bytes]:
        self._writer.write(data)
        status, length = read_head((await self._reader.readuntil(b"\r\n\r\n"))[:-4])
        return status, await self._reader.readexactly(length)

    async def follow(self, path: str) -> asyncio.StreamReader:
        """The chunked answer of an event stream, from behind its head."""
        self._writer.write(request("GET", path, None, token=self._talk.token, host=f"{self._host}:{self._port}"))
        status, _ = read_head((await self._reader.readuntil(b"\r\n\r\n"))[:-4])
        assert status == 200, status
        return self._reader


async def lines(reader: asyncio.StreamReader) -> Any:
    """The JSON lines of a chunked answer."""
    rest = b""
    while True:
        size = int(await reader.readline(), 16)
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return
        *whole, rest = rest.split(b"\n")
        for line in whole:
            if line:
                yield json.loads(line)


def request(method: str, path: str, body: Any = None, *, token: str = "", host: str = "localhost") -> bytes:
    """A request as bytes."""
    data = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def read_head(head: bytes) -> tuple[int, int]:
    """Status and length of the body."""
    first, *rest = head.split(b"\r\n")
    length = 0
    for line in rest:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return int(first.split(b" ", 2)[1]), length


def place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
