"""The Engine's HTTP API over its unix socket: requests with a limit each, streams, and when the daemon was away.

Knows no container of ours and no contract; answers are decoded by whoever asked.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import msgspec

from kohakuriver.errors import BackendAway, PluginError

logger = logging.getLogger(__name__)

#: seconds: a question, and a step that does something
SHORT = 20.0
LONG = 100.0
#: the newest version of the API that this plugin was written for
NEWEST = (1, 47)
REMEMBERED_OUTAGES = 32
JSON, TAR = "application/json", "application/x-tar"
#: a daemon that stops ends its containers first, and may tell of their ends before its connections break
NOTICED = timedelta(seconds=5)

T = TypeVar("T")
Broken = (aiohttp.ClientError, OSError)


class Unreachable(BackendAway):
    """the daemon does not answer"""

    #: the connection broke after it had been made: what was asked for may have been done, and the daemon may have died
    broken = False


class EngineError(PluginError):
    """the daemon said no"""

    def __init__(self, status: int, message: str) -> None:
        """The daemon's words become one line."""
        self.status = status
        super().__init__(" ".join(message.split()))


class _Words(msgspec.Struct):
    message: str = ""


class _Version(msgspec.Struct):
    api: str = msgspec.field(name="ApiVersion")


class Engine:
    """One daemon. Every connection is used once: none is stale after the daemon has restarted."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._prefix: str | None = None
        self._away_since: datetime | None = None
        self._outages: deque[tuple[datetime, datetime]] = deque(maxlen=REMEMBERED_OUTAGES)
        #: how often a connection broke or could not be made
        self.losses = 0

    async def close(self) -> None:
        """Ends every request and stream."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def was_away(self, at: datetime) -> bool:
        """Whether the daemon was away at that moment or about to be, as far as anybody here asked it."""
        spans = list(self._outages)
        if self._away_since is not None:
            spans.append((self._away_since, datetime.now(UTC)))
        return any(begin - NOTICED <= at <= end for begin, end in spans)

    async def ask(
        self,
        kind: type[T],
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        body: object = None,
        limit: float = SHORT,
    ) -> T:
        """The decoded answer. Raises Unreachable, EngineError."""
        data = await self.send(method, path, params=params, body=body, limit=limit)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise PluginError(f"the daemon's answer to {path} cannot be read: {error}") from None

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        limit: float | None = SHORT,
    ) -> bytes:
        """The answer's bytes. Raises Unreachable after `limit` seconds or on a broken connection, EngineError."""
        try:
            async with (
                asyncio.timeout(limit),
                self.stream(method, path, params=params, body=body, data=data) as response,
            ):
                return await response.read()
        except TimeoutError:
            raise Unreachable(f"Docker at {self.socket} did not answer within {limit or 0:g} s") from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is read by the caller, who also sets the limit. `data` is a tar, sent as it is.

        Raises Unreachable, EngineError.
        """
        prefix = await self.prefix()
        try:
            async with self._open().request(
                method,
                f"http://docker{prefix}{path}",
                params=params,
                data=data if body is None else msgspec.json.encode(body),
                headers={"Content-Type": JSON if data is None else TAR, **(headers or {})},
            ) as response:
                self._is_here()
                if response.status >= 400:
                    raise await _refusal(response)
                yield response
        except TimeoutError:  # the reader's own limit, and an OSError too: the daemon may be there
            raise
        except Broken as error:
            raise self._lost(error) from None

    async def prefix(self) -> str:
        """What stands before every path: the version of the API. Raises Unreachable, EngineError."""
        return await self._version() if self._prefix is None else self._prefix

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=self.socket, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=256 * 1024
            )
        return self._session

    async def _version(self) -> str:
        """The API's version that both sides know; asked again after the daemon was away, for it may be another one."""
        try:
            async with self._open().get("http://docker/version") as response:
                if response.status >= 400:
                    raise await _refusal(response)
                told = msgspec.json.decode(await response.read(), type=_Version)
            newest = tuple(int(part) for part in told.api.split("."))
        except Broken as error:
            raise self._lost(error) from None
        except (msgspec.DecodeError, ValueError) as error:
            raise PluginError(f"what listens at {self.socket} is no Docker: {error}") from None
        self._prefix = "/v{}.{}".format(*min(newest, NEWEST))
        return self._prefix

    def _is_here(self) -> None:
        if self._away_since is not None:
            self._outages.append((self._away_since, datetime.now(UTC)))
            self._away_since = None

    def _lost(self, error: BaseException) -> Unreachable:
        self.losses += 1
        self._prefix = None
        if self._away_since is None:
            self._away_since = datetime.now(UTC)
        lost = Unreachable(f"Docker at {self.socket} cannot be reached: {_why(error)}")
        lost.broken = not isinstance(error, aiohttp.ClientConnectorError)
        return lost


async def _refusal(response: aiohttp.ClientResponse) -> EngineError:
    data = await response.read()
    try:
        text = msgspec.json.decode(data, type=_Words).message
    except msgspec.DecodeError:
        text = data.decode(errors="replace")
    return EngineError(response.status, text.strip()[:1000] or f"status {response.status}")


def _why(error: BaseException) -> str:
    cause: Any = getattr(error, "os_error", None) or error
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__
