"""Threads for a share that may hang for ever: nobody waits longer than the patience, and a few can hang at most.

They are daemon threads: one that the kernel holds must keep neither a task nor the end of the process.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from kohakuriver.errors import Unreachable

MOST = 8
Result = TypeVar("Result")


class Abandoned(Exception):
    """Raised inside work that was given up."""


class Pulse:
    """What the work and whoever waits for it see of each other."""

    def __init__(self) -> None:
        self.count = 0
        self._given_up = False

    def beat(self) -> None:
        """Says that something moved. Raises Abandoned when nobody waits any more."""
        if self._given_up:
            raise Abandoned
        self.count += 1

    def give_up(self) -> None:
        """The work ends itself at its next beat."""
        self._given_up = True


class Patience:
    """Runs work in threads. Several at once; those that hang keep their place."""

    def __init__(self, limit: float, place: str, most: int = MOST) -> None:
        """`limit`: seconds without a beat; `place`: what hangs, for people."""
        self._limit = limit
        self._place = place
        self._turns = asyncio.Semaphore(most)

    async def run(self, work: Callable[[Pulse], Result]) -> Result:
        """What the work returns or raises. Cancelled, it waits until the work has noticed, as long as it is patient.

        Raises Unreachable when nothing moved for too long; the work then ends when it can.
        """
        try:
            async with asyncio.timeout(self._limit):
                await self._turns.acquire()
        except TimeoutError:
            raise self._hangs() from None
        pulse = Pulse()
        ended = self._begin(work, pulse)
        seen = -1
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=self._limit)
                if not ended.done() and pulse.count == seen:
                    raise self._hangs()
                seen = pulse.count
        except asyncio.CancelledError:
            pulse.give_up()
            await asyncio.wait([ended], timeout=self._limit)
            raise
        finally:
            pulse.give_up()
        result, error = ended.result()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where the work returns it

    def _begin(
        self, work: Callable[[Pulse], Result], pulse: Pulse
    ) -> "asyncio.Future[tuple[Result | None, BaseException | None]]":
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            self._turns.release()
            if not ended.done():
                ended.set_result((result, error))

        def main() -> None:
            result: Result | None = None
            failure: BaseException | None = None
            try:
                result = work(pulse)
            except BaseException as error:  # noqa: BLE001 -- it is raised again where it is waited for
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, result, failure)

        threading.Thread(target=main, name="kohakuriver-nfs", daemon=True).start()
        return ended

    def _hangs(self) -> Unreachable:
        return Unreachable(f"{self._place} does not answer for {self._limit:g} s: is the file server up?")
