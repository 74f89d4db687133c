"""A real HTTP server that answers as a test says, and remembers what it was asked."""

import datetime as dt
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any
    #: number of the connection that it came on
    connection: int


class Reply(NamedTuple):
    """An answer. `chunks` are sent one by one; `breaks` closes the connection without an end."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}
    chunks: Iterable[bytes] | None = None
    breaks: bool = False
    raw: bytes | None = None
    kind: str = "application/json"


Answer = Reply | Callable[[Asked], Reply]


class Peer:
    """Answers by method and path; the last answer of a list stays."""

    def __init__(self, tls: Path | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.connections = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, *answers: Answer | Any) -> None:
        """Answer so; anything that is no Reply is a JSON body."""
        given = [each if isinstance(each, Reply) or callable(each) else Reply(each) for each in answers]
        self.answers[method, path] = given

    def asked_for(self, method: str, path: str) -> list[Asked]:
        return [each for each in self.asked if (each.method, each.path) == (method, path)]

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        script = self.answers.get((asked.method, asked.path))
        if script is None:
            return problem(404, "not_found", f"nothing at {asked.method} {asked.path}")
        answer = script.pop(0) if len(script) > 1 else script[0]
        return answer(asked) if callable(answer) else answer

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def problem(status: int, code: str, detail: str, **more: Any) -> Reply:
    """An RFC 9457 answer."""
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}
    return Reply(body, status=status, kind="application/problem+json")


def stream(*chunks: bytes, offset: int = 0, dropped: int = 0, breaks: bool = False) -> Reply:
    """Output of a task."""
    headers = {"X-Offset": str(offset), "X-Dropped": str(dropped)}
    return Reply(chunks=chunks, headers=headers, breaks=breaks, kind="application/octet-stream")


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def make_certificate(folder: Path, name: str = "peer") -> tuple[Path, str]:
    """A self-signed certificate for 127.0.0.1 with its key, and its SHA-256."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{name}.pem"
    file.write_bytes(text + certificate.public_bytes(pem))
    return file, hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _handler(peer: Peer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            peer.connections += 1
            self.number = peer.connections

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ssl.SSLError):
                self.close_connection = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self._body()
            asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), self.headers, body, self.number)
            self._send(peer.answer(asked))

        def _body(self) -> Any:
            if self.headers.get("Transfer-Encoding") == "chunked":
                return b"".join(self._chunks())
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Type") == "application/octet-stream":
                return data
            return json.loads(data) if data else None

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  names that http.server looks for

        def _send(self, reply: Reply) -> None:
            if reply.raw is not None:
                self.wfile.write(reply.raw)
            elif reply.chunks is not None:
                self._head(reply, "Transfer-Encoding", "chunked")
                for chunk in reply.chunks:
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                if not reply.breaks:
                    self.wfile.write(b"0\r\n\r\n")
            elif not reply.breaks:
                given = b"" if reply.body is None else reply.body
                data = given if isinstance(given, bytes) else json.dumps(given).encode()
                self._head(reply, "Content-Length", str(len(data)))
                self.wfile.write(data)
            self.close_connection = self.close_connection or reply.breaks or reply.raw is not None

        def _head(self, reply: Reply, name: str, value: str) -> None:
            self.send_response(reply.status)
            for pair in {**reply.headers, name: value, "Content-Type": reply.kind}.items():
                self.send_header(*pair)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    return Handler
