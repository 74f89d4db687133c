"""What is not kept for ever: archived output, answers to idempotency keys, old sessions and one-use secrets, reports
that changed nothing. Once an hour, in small batches, so that nobody waits behind it.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

from kohakuriver.errors import KohakuRiverError
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.clock import Clock
from kohakuriver.host.commits import Commits
from kohakuriver.store.expired import expired_rows, old_outputs, remove_outputs
from kohakuriver.store.reader import Reader

log = logging.getLogger(__name__)

TICK = 3600.0
BATCH = 500


@dataclass(kw_only=True)
class Retention:
    """Removes what is old. `output_days` 0: output is kept for ever."""

    reader: Reader
    commits: Commits
    blobs: Blobs
    clock: Clock
    output_days: int

    async def run(self) -> None:
        """A pass at the start and one every hour, until cancelled."""
        while True:
            try:
                await self.tick()
            except (KohakuRiverError, OSError) as error:
                log.warning("removing what is old failed: %s", error, extra={"action": "retention"})
            await asyncio.sleep(TICK)

    async def tick(self) -> int:
        """One pass; how many rows went. May be cancelled or fail at any point: the next pass goes on from there."""
        gone, now = 0, self.clock.now()
        while (found := await expired_rows(self.reader, now, BATCH)) is not None:
            count, statement = found
            await self.commits.write([statement])
            gone += count
        gone += await self._outputs() if self.output_days else 0
        if gone:
            log.info("removed what was old", extra={"action": "retention", "rows": gone})
        return gone

    async def _outputs(self) -> int:
        """The file first, then its row: what a crash in between leaves is a row that the next pass finds again."""
        before, last, gone = self.clock.now() - timedelta(days=self.output_days), None, 0
        while page := await old_outputs(self.reader, before, last, BATCH):
            for output in page:
                if output.path is not None:
                    await self.blobs.remove(output.path)
            await self.commits.write([remove_outputs(page)])
            last, gone = page[-1], gone + len(page)
        return gone
