"""The live path of output: attached before the start, exact to the last byte, read by one reader once."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from kohakuriver_docker.engine import Broken, Engine
from kohakuriver_docker.frames import Frames, Name

ATTACH = {"stream": "1", "stdout": "1", "stderr": "1"}
ONE_READ = 256 * 1024


class Attached:
    """One attachment. While nobody reads it, a container that says much waits for its reader."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._stack = contextlib.AsyncExitStack()
        self._losses = engine.losses
        self._response: aiohttp.ClientResponse

    async def open(self) -> None:
        """Raises Unreachable, EngineError."""
        self._response = await self._stack.enter_async_context(
            self._engine.stream("POST", f"/containers/{self._container}/attach", params=ATTACH)
        )

    async def read(self) -> AsyncIterator[tuple[Name, bytes]]:
        """Until the daemon ends it: with the container, or because it goes away itself."""
        frames = Frames()
        while True:
            try:
                data = await self._response.content.read(ONE_READ)
            except Broken:
                self._losses = -1
                return
            if not data:
                return
            for part in frames.feed(data):
                yield part

    @property
    def undisturbed(self) -> bool:
        """Whether the daemon was there all the time, so that the end of the stream is the end of the output."""
        return self._losses == self._engine.losses

    async def close(self) -> None:
        """May be called again."""
        await self._stack.aclose()
