"""Publish and subscribe: "this changed". Carries no content that anybody might not see; whoever cares asks again."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from kohakuriver.wire.api import ChangeView

WAITING = 4096


class Subscription:
    """One reader. Holds at most 4,096 changes; a slower reader is told `lagged` and goes on with the newest."""

    def __init__(self) -> None:
        self._waiting: deque[ChangeView] = deque()
        self._wake = asyncio.Event()
        self._lagged = False
        self._closed = False

    def put(self, change: ChangeView) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.clear()
            self._lagged = True
        self._waiting.append(change)
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def next(self) -> ChangeView | None:
        """The next change; None when the service stops. Cancelling it loses nothing."""
        while not self._waiting:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._lagged:
            self._lagged = False
            return ChangeView(id=self._waiting[0].id, kind="lagged")
        return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[ChangeView]:
        while (change := await self.next()) is not None:
            yield change


class Changes:
    """Where the host says what changed, after the commit."""

    def __init__(self) -> None:
        self._readers: set[Subscription] = set()
        self._last = 0
        self._closed = False

    def publish(self, kind: str, ref: object = "", status: str | None = None) -> None:
        """Tells every reader; never waits."""
        self._last += 1
        if not self._readers:
            return
        change = ChangeView(id=self._last, kind=kind, ref=str(ref), status=status)
        for reader in self._readers:
            reader.put(change)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Everything published from now on."""
        reader = Subscription()
        if self._closed:
            reader.close()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self) -> None:
        """Ends every subscription, now and later."""
        self._closed = True
        for reader in self._readers:
            reader.close()
