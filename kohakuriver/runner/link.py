"""Keeps the runner in touch with its host: dials, greets, dials again. Knows no attempt."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

import aiohttp

from kohakuriver.errors import KohakuRiverError
from kohakuriver.runner.clock import Clock, heed_cancellation
from kohakuriver.runner.enrol import tls
from kohakuriver.runner.journal import Journal
from kohakuriver.runner.lease import Lease
from kohakuriver.runner.session import Ended, Order, Session
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.wire.link import DEAD_SECONDS, MOST_MESSAGE, FromRunner, Hello

log = logging.getLogger(__name__)

FIRST_WAIT = 0.2
LONGEST_WAIT = 15.0
#: after answers that a person must change
SLOW_WAIT = 60.0
#: a session that was live for so long begins the waiting anew
STEADY_SECONDS = 10.0
CONNECT_SECONDS = 10.0


def backoff(tries: int, chance: float) -> float:
    """Seconds before the next attempt after `tries` failed ones, spread so that a thousand do not come at once."""
    if tries == 0:
        return FIRST_WAIT * (0.5 + chance)
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(tries, 16)) * chance)


class Link:
    """The one connection for control messages."""

    def __init__(
        self,
        settings: RunnerSettings,
        journal: Journal,
        clock: Clock,
        *,
        hello: Callable[[], Hello],
        order: Callable[[Order], None],
        unreadable_assign: Callable[[str, str], None],
        settled: Callable[[], Awaitable[None]],
        lease: Lease,
    ) -> None:
        self.session: Session | None = None
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._hello = hello
        self._order = order
        self._unreadable_assign = unreadable_assign
        self._settled = settled
        self._lease = lease

    def send(self, message: FromRunner) -> None:
        """Sends what may be lost; without a session it is."""
        if self.session is not None:
            self.session.send(message)

    async def run(self) -> None:
        """Dials for ever. Returns only when the host said that it is of no use; workloads are not touched."""
        tries = 0
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                began = self._clock.boot()
                ended = await self._once(http)
                heed_cancellation()
                await self._settled()
                if ended.final:
                    log.error(
                        "the host does not take this node; nothing here is touched; start again after it was joined",
                        extra={"reason": ended.reason},
                    )
                    return
                steady = self._clock.boot() - began >= STEADY_SECONDS
                tries = 0 if steady else tries
                wait = backoff(tries, self._clock.chance())
                if ended.wait is not None:
                    wait = max(wait, ended.wait)
                log.info("the link is down", extra={"reason": ended.reason, "again_in": round(wait, 2)})
                tries += 1
                await self._clock.sleep(wait)

    async def _once(self, http: aiohttp.ClientSession) -> Ended:
        """One connection, from dialing to its end."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await http.ws_connect(
                    f"{self._settings.host_url.rstrip('/')}/link",
                    headers={"Authorization": f"Bearer {self._settings.credential}"},
                    ssl=tls(self._settings.fingerprint),
                    max_msg_size=MOST_MESSAGE,
                    compress=0,
                    autoping=False,
                    autoclose=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
        except aiohttp.WSServerHandshakeError as error:
            return self._turned_away(error)
        except aiohttp.ServerFingerprintMismatch:
            return Ended(reason="the host shows another certificate than the pinned one", wait=SLOW_WAIT)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Ended(reason=f"no answer: {error or 'it took too long'}")
        try:
            return await self._speak(connection)
        finally:
            self.session = None
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                await connection.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    async def _speak(self, connection: aiohttp.ClientWebSocketResponse) -> Ended:
        _user_timeout(connection)
        session = Session(
            connection,
            self._journal,
            self._clock,
            hello=self._hello(),
            order=self._order,
            unreadable_assign=self._unreadable_assign,
            lease=self._lease,
        )
        self.session = session
        ended = Ended(reason="the link ended")
        try:
            ended = await session.run()
        except* KohakuRiverError as group:  # the journal is full or broken: the next session tries again
            ended = Ended(reason=f"this session failed: {group.exceptions[0]}")
        return ended

    def _turned_away(self, error: aiohttp.WSServerHandshakeError) -> Ended:
        reason = f"the handshake was answered {error.status}"
        if error.status in (401, 403):
            log.error("the host does not know this node's credential; join it again", extra={"status": error.status})
            return Ended(reason=reason, wait=SLOW_WAIT)
        after = "" if error.headers is None else error.headers.get("Retry-After", "")
        if after.isdigit():
            return Ended(reason=reason, wait=min(int(after), SLOW_WAIT) * (1 + self._clock.chance()))
        return Ended(reason=reason)


def _user_timeout(connection: aiohttp.ClientWebSocketResponse) -> None:
    """tcp(7): bytes that stay unacknowledged for so long end the connection."""
    sock = connection.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_SECONDS * 1000))
