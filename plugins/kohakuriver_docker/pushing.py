"""Images to a registry, under a name that the daemon knows them by only meanwhile."""

import asyncio
import logging
from weakref import WeakValueDictionary

from kohakuriver.errors import NotFound, PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver_docker import local
from kohakuriver_docker.engine import LONG, Engine, EngineError, Unreachable
from kohakuriver_docker.registries import Told, sign_in

logger = logging.getLogger(__name__)


class Pusher:
    """Out of one daemon."""

    def __init__(self, engine: Engine, ctx: Context, silence: float) -> None:
        self._engine = engine
        self._ctx = ctx
        self._silence = silence
        #: by reference, for as long as anybody pushes under it or waits
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def push(self, digest: str, reference: str, auth: str | None, progress: Progress) -> str:
        """As `Packages.push`. The reference is the syncer's: whatever it named on this node before, it does no more."""
        turn = self._turns.setdefault(reference, asyncio.Lock())
        async with turn:
            await local.name_it(self._engine, digest, reference)
            try:
                pushed = await self._push(reference, auth, progress)
            finally:
                await self._unname(digest, reference)
        return f"{local.split(reference)[0]}@{pushed}"

    async def _push(self, reference: str, auth: str | None, progress: Progress) -> str:
        name, tag = local.split(reference)
        headers = {"X-Registry-Auth": auth or await sign_in(self._ctx, name)}
        progress(f"pushing {reference}")
        told = Told(reference, progress, verb="pushing", done="pushed", moving="Pushing")
        await told.hear(
            self._engine, f"/images/{name}/push", params={"tag": tag}, headers=headers, silence=self._silence
        )
        if not told.digest:
            raise PluginError(f"image {reference} was not pushed: the daemon ended without saying its digest")
        return told.digest

    async def _unname(self, digest: str, reference: str) -> None:
        """Takes the name away, unless it is the image's only one: the image would go with it."""
        try:
            image = await local.find(self._engine, digest)
            if any(name != reference for name in image.tags or ()):
                await self._engine.send("DELETE", f"/images/{reference}", limit=LONG)
        except (NotFound, EngineError, Unreachable) as error:  # the name alone is left, and the next push uses it
            logger.warning("name of a pushed image stays", extra={"image": reference, "error": error.message})
