"""The blocking HTTP client of the commands: one keep-alive connection, answers into values or errors of ours."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from kohakuriver import __version__
from kohakuriver.client.place import Place
from kohakuriver.client.plain import http
from kohakuriver.client.problems import problem_error
from kohakuriver.errors import KohakuRiverError, NotSignedIn, TooLarge, Unreachable

TIMEOUT = 30.0
#: seconds for which the host may take nothing of an upload, or work on it without an answer
UPLOAD_SILENCE = 600.0
LARGEST_ANSWER = 64 * 1024 * 1024
#: seconds of silence before the other side of a terminal is asked for a sign of life, then between questions, and how
#: many
KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6}
BROKEN = (http.client.HTTPException, ConnectionError, BrokenPipeError)


class Lost(Unreachable):
    """the connection broke before the answer was complete"""

    code = "unreachable"


class Client:
    """Requests to one host, one after the other. Not for several threads; `stream` has connections of its own."""

    def __init__(
        self, place: Place, *, timeout: float = TIMEOUT, look_again: Callable[[], Place] | None = None
    ) -> None:
        """`timeout` in seconds bounds the connecting and each wait for bytes.

        `look_again` finds the place anew when the credential does not count any more: a lab makes one at each start.
        """
        self.place = place
        self.timeout = timeout
        self.look_again = look_again
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, *, timeout: float | None = None) -> Any:
        """The answer's JSON. Tried again once when the connection breaks."""
        return self.request("GET", path, timeout=timeout)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """As `get`; both tries carry the same idempotency key, so the host does it once."""
        return self.request("POST", path, body={} if body is None else body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change what is given."""
        return self.request("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        """Remove it."""
        return self.request("DELETE", path)

    def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """The answer's JSON, None for an empty one. Raises the error that the host names, or Unreachable."""
        headers = {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        try:
            return self._once(method, path, data, headers, timeout)
        except Lost:
            return self._once(method, path, data, headers, timeout)
        except NotSignedIn:
            if not self._has_new_credential():
                raise
            return self._once(method, path, data, headers, timeout)

    @contextmanager
    def stream(self, path: str, *, accept: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
        """An answer to be read as it comes, on a connection of its own. Raises as `request`.

        Reading raises the exceptions in BROKEN, or TimeoutError after `timeout` seconds without a byte.
        """
        connection = self._open(timeout)
        try:
            response = self._ask(connection, "GET", path, None, self._headers(accept))
            if response.status == 401 and self._has_new_credential():
                connection.close()
                connection = self._open(timeout)
                response = self._ask(connection, "GET", path, None, self._headers(accept))
            if response.status >= 300:
                raise self._refusal(response, self._read(response))
            yield response
        finally:
            connection.close()

    def upload(self, method: str, path: str, body: Iterable[bytes], *, size: int | None = None) -> Any:
        """Sends bytes as the body, without an end known before where `size` is None; the answer's JSON.

        Never tried again: what was sent is gone. A refusal that comes while bytes are still sent is raised as it is.
        """
        headers = self._headers("application/json") | {"Content-Type": "application/octet-stream"}
        headers |= {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
        connection = self._open(self.timeout)
        try:
            if connection.sock is not None:
                connection.sock.settimeout(UPLOAD_SILENCE)
            early = contextlib.suppress(ConnectionError)  # it may have answered before it hung up
            with early:
                connection.request(method, path, body=body, headers=headers, encode_chunked=size is None)
            response = self._answer(connection)
            data = self._read(response)
        finally:
            connection.close()
        if response.status >= 300:
            raise self._refusal(response, data)
        return self._value(data)

    @contextmanager
    def upgrade(self, path: str, protocol: str) -> Iterator[tuple[socket.socket, bytes]]:
        """A connection that is raw bytes after this request (RFC 9110 §7.8), and those of them that came already.

        Raises as `request`.
        """
        connection = self._open(self.timeout)
        try:
            headers = self._headers("*/*") | {"Connection": "Upgrade", "Upgrade": protocol}
            response = self._ask(connection, "GET", path, None, headers)
            if response.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise self._refusal(response, self._read(response))
            sock = connection.sock
            assert sock is not None, "an upgraded connection stays open"
            _notice_death(sock)
            sock.setblocking(False)
            early = b""
            with contextlib.suppress(OSError):  # nothing more has come
                early = response.fp.peek()
            yield sock, early
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        """A client that nobody holds any more leaves no open connection."""
        self.close()

    def _once(self, method: str, path: str, data: bytes | None, headers: dict[str, str], timeout: float | None) -> Any:
        connection = self._connection = self._connection or self._open(self.timeout)
        if connection.sock is not None:
            connection.sock.settimeout(timeout or self.timeout)
        try:
            response = self._ask(connection, method, path, data, self._headers("application/json") | headers)
            body = self._read(response)
        except BaseException:
            self.close()
            raise
        if response.status >= 300:
            raise self._refusal(response, body)
        return self._value(body)

    def _has_new_credential(self) -> bool:
        if self.look_again is None:
            return False
        found = self.look_again()
        if found.url != self.place.url or found.token == self.place.token:
            return False
        self.place = found
        return True

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        """A connected socket in an HTTPConnection; with TLS the other side is known before a byte is sent."""
        parts = urlsplit(self.place.url)
        secure = parts.scheme == "https"
        name, port = parts.hostname or "", parts.port or (443 if secure else 80)
        connection = http.client.HTTPConnection(name, port, timeout=timeout)
        try:
            # as bytes: a str name would load the tables of international names first
            where: Any = name.encode() if name.isascii() else name
            plain = socket.create_connection((where, port), timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sock = self._wrap(plain, name) if secure else plain
        except OSError as error:
            raise self._unreachable(_reason(error)) from None
        return connection

    def _wrap(self, plain: socket.socket, name: str) -> socket.socket:
        from kohakuriver.client.tls import wrap  # noqa: PLC0415  10 ms that a command pays only for https

        return wrap(plain, name, self.place)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        data: bytes | None,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, path, body=data, headers=headers)
        except TimeoutError:
            raise self._unreachable("it accepted the connection, and then took nothing") from None
        except BROKEN as error:
            raise Lost(self._sentence(_reason(error))) from None
        except OSError as error:
            raise self._unreachable(_reason(error)) from None
        return self._answer(connection)

    def _answer(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        try:
            return connection.getresponse()
        except TimeoutError:
            raise self._unreachable("it accepted the connection, but gave no answer in time") from None
        except http.client.BadStatusLine as error:
            if isinstance(error, http.client.RemoteDisconnected):
                raise Lost(self._sentence("the connection was closed before an answer came")) from None
            raise self._unreachable("what answers there does not speak HTTP; is it the right port?") from None
        except BROKEN as error:
            raise Lost(self._sentence(_reason(error))) from None
        except OSError as error:
            raise self._unreachable(_reason(error)) from None

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            body = response.read(LARGEST_ANSWER + 1)
        except TimeoutError:
            raise self._unreachable("its answer stopped in the middle") from None
        except BROKEN as error:
            raise Lost(self._sentence(_reason(error))) from None
        if len(body) > LARGEST_ANSWER:
            raise TooLarge("the answer of the host is too large; ask for less", limit=LARGEST_ANSWER)
        return body

    def _value(self, body: bytes) -> Any:
        if not body:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._unreachable("what answers there is no KohakuRiver host; is the URL right?") from None

    def _refusal(self, response: http.client.HTTPResponse, body: bytes) -> KohakuRiverError:
        if response.status < 400:
            return self._unreachable(f"it sends us elsewhere (status {response.status}); name the right URL")
        kind = response.headers.get("Content-Type", "")
        if "json" not in kind and response.status in {400, 404, 405, 501}:
            return self._unreachable(f"what answers there (status {response.status}) is no KohakuRiver host")
        return problem_error(response.status, kind, body, response.headers.get("Retry-After"))

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"kohakuriver/{__version__}"}
        if self.place.token:
            headers["Authorization"] = f"Bearer {self.place.token}"
        return headers

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(self._sentence(why))

    def _sentence(self, why: str) -> str:
        step = "name the host: --url or KOHAKURIVER_URL, or start a lab: kohakuriver serve --role all"
        return f"the host at {self.place.url} ({self.place.source}) cannot be reached: {why}; {step}"


def _notice_death(sock: socket.socket) -> None:
    """A stream that may be silent for days breaks soon after the other machine has vanished (tcp(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _reason(error: Exception) -> str:
    """What went wrong, without the class or number."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection broke" if not isinstance(error, http.client.HTTPException) else "its answer was cut off"
