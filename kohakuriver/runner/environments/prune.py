"""Room on the disk: images of environments that nothing uses go by age and below a floor of free bytes.

Only images that were fetched or made here as versions of environments are ever touched, and never one that an attempt
of the journal names, that a container is made of, or that is on its way. The last use of each is kept in a small file.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kohakuriver.errors import KohakuRiverError, StorageFull
from kohakuriver.hooks.packages import Held, HeldImage
from kohakuriver.runner.clock import Clock
from kohakuriver.runner.environments.stock import Stock

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
DAY = 86400.0
#: below the floor, what was used within this time stays, or a node that is always short fetches all day
SPARED_SECONDS = DAY
#: bytes that a fetch or an upload leaves free
MARGIN = 512 * 1024**2


class Room:
    """The disk of one node, as far as images are on it."""

    def __init__(
        self,
        *,
        place: Path,
        clock: Clock,
        in_thread: Callable[..., Awaitable[Any]],
        stocks: Mapping[str, Stock],
        busy: Callable[[], Collection[str]],
        trouble: Callable[[str], str | None],
        unused_seconds: float,
        floor: int,
    ) -> None:
        """`place`: a directory of ours, whose disk is looked at. `busy`: digests that must stay. `trouble`: why a
        backend cannot be used now, by name.

        `unused_seconds` and `floor`: 0 removes nothing for its age, or for want of room.
        """
        self._place = place
        self._clock = clock
        self._in_thread = in_thread
        self._stocks = stocks
        self._busy = busy
        self._trouble = trouble
        self._unused = unused_seconds
        self._floor = floor
        self._used: dict[str, float] = {}
        self._changed = False

    async def load(self) -> None:
        """Takes up what was kept of the last uses. A file that is lost or damaged counts everything as used now."""
        self._used = await self._in_thread(_read, self._place / "used.json")

    def touch(self, digest: str) -> None:
        """The image is used."""
        self._used[digest] = self._now()
        self._changed = True

    async def run(self) -> None:
        """Prunes now and then."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                await self.tick()
            except (KohakuRiverError, OSError) as error:
                log.warning("images cannot be pruned now", extra={"error": str(error)})
            except Exception:  # a plugin's fault is its own, and ends no runner: logged
                log.exception("images cannot be pruned")

    async def tick(self) -> None:
        """One pass: by age, then down to the floor; then the last uses are kept."""
        for digest in self._busy():
            self.touch(digest)
        for name, stock in self._stocks.items():
            if self._trouble(name) is not None:
                continue
            self._meet(await stock.look())
            for image in idle(stock.held, self._busy()):
                if self._unused and self._now() - self._last(image) > self._unused:
                    await self._drop(stock, image)
        await self._free(self._floor, spared=SPARED_SECONDS)
        if self._changed:
            there = {digest for stock in self._stocks.values() for digest in stock.held.images}
            self._used = {digest: at for digest, at in self._used.items() if digest in there}
            await self._in_thread(_write, self._place / "used.json", dict(self._used))
            self._changed = False

    async def make(self, size: int, what: str) -> bool:
        """Sees to room for so many bytes; whether images went for it. Raises StorageFull with numbers."""
        free, dropped = await self._left(), False
        if self._floor and free < size + MARGIN:
            dropped = await self._free(size + MARGIN, spared=0.0)
            free = await self._left()
        if free < size + MARGIN:
            raise StorageFull(
                f"{what} may take {mib(size)} MiB, and of {mib(free)} MiB free under {self._place} "
                f"{mib(MARGIN)} MiB stay free: make room on this node"
            )
        return dropped

    async def _free(self, goal: int, *, spared: float) -> bool:
        """Drops images, the longest unused first, until so many bytes are free; whether any went."""
        now, dropped = self._now(), False
        found = [(stock, image) for stock in self._stocks.values() for image in idle(stock.held, self._busy())]
        found = [pair for pair in found if now - self._last(pair[1]) >= spared]
        for stock, image in sorted(found, key=lambda pair: self._last(pair[1])):
            if await self._left() >= goal:
                break
            dropped = await self._drop(stock, image) or dropped
        return dropped

    async def _drop(self, stock: Stock, image: HeldImage) -> bool:
        if image.digest in self._busy():
            return False
        stock.forget(image.digest)
        try:
            gone = await stock.packages.drop(image.digest)
        except KohakuRiverError as error:
            log.warning("an image cannot be removed", extra={"digest": image.digest, "error": error.message})
            return False
        if not gone:
            stock.add(image)
            return False
        stock.forget(image.digest)  # somebody may have looked meanwhile
        self._used.pop(image.digest, None)
        self._changed = True
        log.info("an unused image was removed", extra={"digest": image.digest, "environment": image.environment})
        return True

    def _meet(self, held: Held) -> None:
        """What is seen for the first time counts as used now."""
        for digest, image in held.images.items():
            if image.environment is not None and digest not in self._used:
                self.touch(digest)

    def _last(self, image: HeldImage) -> float:
        return self._used.get(image.digest, self._now())

    def _now(self) -> float:
        return self._clock.wall().timestamp()

    async def _left(self) -> int:
        return int(await self._in_thread(free, self._place))


def idle(held: Held, busy: Collection[str]) -> Sequence[HeldImage]:
    """The images that may go."""
    return [
        image
        for image in held.images.values()
        if image.environment is not None and not image.used and image.digest not in busy
    ]


def free(place: Path) -> int:
    """Bytes free on the disk of a directory. Blocks."""
    return shutil.disk_usage(place).free


def mib(size: int) -> int:
    """In MiB, for words."""
    return size // 1024**2


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes())
        return {str(digest): float(at) for digest, at in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(path: Path, used: Mapping[str, float]) -> None:
    fresh = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # a guess of the last use is good enough after a full disk
        fresh.write_text(json.dumps(used))
        fresh.replace(path)
