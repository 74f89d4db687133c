"""The host's store of contents as a node reaches it: its own credential, the pinned certificate, bytes that are
verified here, and a broken connection that is taken up where it broke.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import aiohttp

from kohakuriver.errors import KohakuRiverError, NotFound, PluginError, StorageFull, Unreachable
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.bundles import verify
from kohakuriver.runner.clock import Clock
from kohakuriver.runner.enrol import tls
from kohakuriver.runner.environments.spool import PIECE, pieces
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.wire import codec, urls
from kohakuriver.wire.environments import MOST_DIGESTS, Missing, MissingAsk

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
#: a host that takes or gives nothing for so long is gone
SILENCE_SECONDS = 120.0
#: tries in a row that brought nothing
MOST_TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
OK, NO_CONTENT, PARTIAL, NOT_FOUND, CONFLICT, NOT_SATISFIABLE = 200, 204, 206, 404, 409, 416


class _Again(Exception):
    """It did not work this time. `far`: something came all the same."""

    def __init__(self, reason: str, *, far: bool = False) -> None:
        super().__init__(reason)
        self.far = far


class HostBlobs:
    """As hooks.syncer.Blobs."""

    def __init__(self, settings: RunnerSettings, clock: Clock, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._settings = settings
        self._clock = clock
        self._in_thread = in_thread
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Lets go of the connections. May be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def missing(self, digests: Collection[str]) -> frozenset[str]:
        asked, found = sorted(digests), set[str]()
        for at in range(0, len(asked), MOST_DIGESTS):
            page = asked[at : at + MOST_DIGESTS]
            found.update(await self._retry(lambda page=page: self._missing(page)))  # type: ignore[misc]
        return frozenset(found)

    async def put(self, digest: str, path: Path, progress: Progress) -> None:
        await self._retry(lambda: self._put(digest, path, progress))

    async def get(self, digest: str, into: Path, progress: Progress) -> None:
        if await self._in_thread(into.exists) and await self._is_right(into, digest):
            return
        part = into.with_suffix(".part")
        resumed = await self._in_thread(part.exists)
        await self._retry(lambda: self._get(digest, part, progress))
        if resumed and not await self._is_right(part, digest):  # what lay here was not its beginning
            await self._retry(lambda: self._get(digest, part, progress))
        await self._in_thread(_settle, part, into, digest)

    async def _missing(self, page: list[str]) -> list[str]:
        ask, headers = codec.encode(MissingAsk(digests=page)), {"Content-Type": "application/json"}
        async with (
            asyncio.timeout(SILENCE_SECONDS),
            self._ask("POST", urls.NODE_BLOBS_MISSING, data=ask, headers=headers) as response,
        ):
            body = await response.read()
            if response.status != OK:
                raise _refusal(response.status, body)
        answer: Missing = codec.decode(body, Missing)
        return answer.digests

    async def _put(self, digest: str, path: Path, progress: Progress) -> None:
        size = (await self._in_thread(path.stat)).st_size
        now = asyncio.get_running_loop().time

        async with asyncio.timeout(SILENCE_SECONDS) as patience:

            async def body() -> AsyncIterator[bytes]:
                sent = 0
                async for piece in pieces(path, self._in_thread):
                    patience.reschedule(now() + SILENCE_SECONDS)
                    yield piece
                    sent += len(piece)
                    progress("sending layers", sent, size)

            headers = {"Content-Length": str(size)}
            url = urls.fill(urls.NODE_BLOB, digest=digest)
            async with self._ask("PUT", url, data=body(), headers=headers) as response:
                answer = await response.read()
        if response.status == CONFLICT and _problem(answer)[0] == "conflict":
            raise _Again(_problem(answer)[1])
        if response.status not in (OK, NO_CONTENT):
            raise _refusal(response.status, answer)

    async def _get(self, digest: str, part: Path, progress: Progress) -> None:
        """Gets what is not yet in the file."""
        at = await self._in_thread(_size, part)
        came = 0
        headers = {"Range": f"bytes={at}-"} if at else {}
        url = urls.fill(urls.NODE_BLOB, digest=digest)
        try:
            async with asyncio.timeout(SILENCE_SECONDS) as patience, self._ask("GET", url, headers=headers) as response:
                if response.status == NOT_SATISFIABLE:
                    if response.headers.get("Content-Range", "") != f"bytes */{at}":
                        await self._in_thread(part.unlink, missing_ok=True)
                        raise _Again("what lay here was longer than what the host has", far=True)
                    return
                if response.status not in (OK, PARTIAL):
                    raise _refusal(response.status, await response.read())
                if response.status == OK:
                    at = 0
                    await self._in_thread(part.unlink, missing_ok=True)
                total = at + (response.content_length or 0)
                async for piece in _pieces(response, patience):
                    await self._in_thread(_append, part, piece)
                    came += len(piece)
                    progress("fetching layers", at + came, total)
        except aiohttp.ServerFingerprintMismatch:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Again(_words(error), far=came > 0) from None

    async def _is_right(self, path: Path, digest: str) -> bool:
        """Whether the file has that content; one that has not is removed."""
        try:
            await self._in_thread(verify, path, digest)
        except (PluginError, OSError):
            await self._in_thread(path.unlink, missing_ok=True)
            return False
        return True

    async def _retry(self, call: Callable[[], Awaitable[Any]]) -> Any:
        tries, wait = 0, FIRST_WAIT
        while True:
            try:
                return await call()
            except aiohttp.ServerFingerprintMismatch:
                raise Unreachable(
                    "the host shows another certificate than the pinned one; join this node again"
                ) from None
            except (_Again, aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error, _Again) and error.far:
                    tries, wait = 0, FIRST_WAIT
                tries += 1
                if tries >= MOST_TRIES:
                    raise Unreachable(f"the host does not answer: {_words(error)}") from None
                log.info("a content is asked for again", extra={"error": _words(error), "tries": tries})
            await self._clock.sleep(wait * (0.5 + self._clock.chance()))
            wait = min(2 * wait, LONGEST_WAIT)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        headers = {"Authorization": f"Bearer {self._settings.credential}", **more.pop("headers", {})}
        return self._session.request(
            method,
            f"{self._settings.host_url.rstrip('/')}{path}",
            headers=headers,
            ssl=tls(self._settings.fingerprint),
            allow_redirects=False,
            **more,
        )


async def _pieces(response: aiohttp.ClientResponse, patience: asyncio.Timeout) -> AsyncIterator[bytes]:
    """The body in large pieces; what is at hand when it breaks off comes before the error."""
    now = asyncio.get_running_loop().time
    pending = bytearray()
    try:
        async for data in response.content.iter_any():
            patience.reschedule(now() + SILENCE_SECONDS)
            pending += data
            if len(pending) >= PIECE:
                yield bytes(pending)
                pending.clear()
    except (aiohttp.ClientError, OSError):
        if pending:
            yield bytes(pending)
        raise
    if pending:
        yield bytes(pending)


def _refusal(status: int, body: bytes) -> Exception:
    """What an answer that is none says."""
    code, detail = _problem(body)
    if status == NOT_FOUND:
        return NotFound(detail or "the host has no such content")
    if status in (401, 403):
        return Unreachable(f"the host does not know this node's credential: {detail or status}")
    if status in (408, 429) or (status >= 500 and code != StorageFull.code):
        return _Again(detail or f"it answered {status}")
    return PluginError(f"the host refuses the content: {detail or f'it answered {status}'}")


def _problem(body: bytes) -> tuple[str, str]:
    """The code and the sentence of a problem+json."""
    try:
        found = codec.decode(body, dict[str, Any])
    except KohakuRiverError:
        return "", ""
    return str(found.get("code") or ""), str(found.get("detail") or found.get("title") or "")


def _words(error: BaseException) -> str:
    return str(error) or "it took too long"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, data: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise StorageFull(f"a layer cannot be kept: {error.strerror}") from None


def _settle(part: Path, into: Path, digest: str) -> None:
    """Gives the file its name when it is whole and right; else it goes."""
    try:
        verify(part, digest)
    except PluginError:
        part.unlink(missing_ok=True)
        raise
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(into)
