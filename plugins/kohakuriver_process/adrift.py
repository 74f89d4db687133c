"""The contract for bodies whose shepherd is gone: `lost` does the looking, here it is awaited with threads."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Exit, Handle, Seen
from kohakuriver_process import lost
from kohakuriver_process.lost import Record
from kohakuriver_process.shepherd.frames import Message

ONE_READ = 256 * 1024


class Adrift:
    """See, wait, stop, output and remove without a shepherd."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def see(self, handle: Handle) -> Seen:
        """Running, or exited without a code; gone when nothing was written down about it."""
        record = await self._record(handle)
        if record is None:
            return Seen(phase="gone")
        left = await self._ctx.in_thread(lost.members, record) if self._same_boot(record) else []
        if left:
            oldest = min(
                left, key=lambda process: process.start
            )  # it may have died before it wrote down whom it started
            run = record.run or f"{oldest.pid}-{oldest.start}"
            return Seen(phase="running", run=run, note="its shepherd is gone; the exit code will be unknown")
        return Seen(phase="exited", run=record.run, exit=lost.ended(self._ctx.boot, record.boot))

    async def story(self, handle: Handle) -> Message:
        """What a shepherd would tell of its use: while it runs, and after that what its groups still know."""
        record = await self._record(handle)
        if record is None or not self._same_boot(record) or record.run is None:
            return {"phase": "gone"}
        return {"phase": "running", "run": record.run, "attempt": record.attempt, "groups": list(record.groups)}

    async def wait(self, handle: Handle, run: str) -> Exit:
        """Returns when the main process is gone and nothing of it is left."""
        if handle.data["boot"] == self._ctx.boot:
            await lost.gone(run)
            await self.kill(handle)
        return lost.ended(self._ctx.boot, handle.data["boot"])

    async def stop(self, handle: Handle, grace: float) -> None:
        record = await self._record(handle)
        if record is None or not self._same_boot(record):
            return
        if grace > 0 and record.run is not None and record.alive:
            await self._ctx.in_thread(lost.ask_to_end, record)
            try:
                async with asyncio.timeout(grace):
                    await lost.gone(record.run)
            except TimeoutError:
                pass
        await self.kill(handle)

    async def kill(self, handle: Handle) -> None:
        """Kills until nothing is left."""
        record = await self._record(handle)
        if record is None or not self._same_boot(record):
            return
        delay = lost.FIRST_DELAY
        while not await self._ctx.in_thread(lost.kill_pass, record):
            await asyncio.sleep(delay)
            delay = min(2 * delay, lost.LONGEST_DELAY)

    async def remove(self, handle: Handle) -> None:
        await self.kill(handle)
        record = await self._record(handle)
        if record is not None:
            await self._ctx.in_thread(lost.forget, self._ctx.state, record)

    async def output(self, handle: Handle, offsets: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """What the shepherd had written to the head files; the rest went with it."""
        for stream in ("stdout", "stderr"):
            path = Path(handle.data["directory"]) / "output" / f"{stream}.head"
            offset = offsets[stream]
            while data := await self._ctx.in_thread(_read, path, offset):
                yield Chunk(stream="stdout" if stream == "stdout" else "stderr", offset=offset, data=data)
                offset += len(data)

    async def _record(self, handle: Handle) -> Record | None:
        record: Record | None = await self._ctx.in_thread(lost.load, self._ctx.state, handle.data["instance"])
        if record is None or record.shepherd != handle.data["shepherd"]:
            return None
        return record

    def _same_boot(self, record: Record) -> bool:
        return record.boot == self._ctx.boot


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(ONE_READ)
    except OSError:
        return b""
