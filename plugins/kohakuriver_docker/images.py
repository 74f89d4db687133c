"""Images on their way into the daemon, from wherever they come: each once, however many tasks wait for it."""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from kohakuriver.errors import Invalid, NotFound, PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Image
from kohakuriver_docker import local
from kohakuriver_docker.engine import Engine
from kohakuriver_docker.importing import Importer
from kohakuriver_docker.names import Names
from kohakuriver_docker.registries import Told, sign_in

logger = logging.getLogger(__name__)

#: seconds for which an image that was here a moment ago is not asked for again
STILL_HERE = 1.0


class Images:
    """Those of one daemon."""

    def __init__(self, engine: Engine, names: Names, ctx: Context, importer: Importer, silence: float) -> None:
        self._engine = engine
        self._names = names
        self._ctx = ctx
        self._importer = importer
        self._silence = silence
        #: by what is wanted, for as long as anybody fetches it or waits
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: the image that was found here last, and when: tasks of one submission come together
        self._last: tuple[Image | None, float] = None, 0.0

    async def prepare(self, image: Image, progress: Progress) -> None:
        """Returns when the image is here. Cancelled, it ends the fetching; what came so far serves the next."""
        wanted = image.digest or image.reference or str(image.path)
        always = image.pull == "always" and not image.digest
        if not always and await self._is_here(image):
            return
        turn = self._turns.setdefault(wanted, asyncio.Lock())
        if turn.locked():
            progress(f"{image.reference or wanted} is being fetched for another task")
        async with turn:
            if always or not await self._is_here(image):
                await self._fetch(image, progress)

    def forget(self) -> None:
        """An image is removed now: what was here a moment ago may not be."""
        self._last = None, 0.0

    async def _is_here(self, image: Image) -> bool:
        """Whether the image is here; it has its version's name then."""
        now = time.monotonic()
        if self._last[0] == image and now - self._last[1] < STILL_HERE:
            return True
        if not (image.digest or image.reference):
            return False
        try:
            found = await local.find(self._engine, image.digest or image.reference or "")
        except NotFound:
            return False
        if image.environment and self._name(image, found.id) not in (found.tags or ()):
            with contextlib.suppress(NotFound):
                await local.name_it(self._engine, found.id, self._name(image, found.id))
        self._last = image, now
        return True

    def _name(self, image: Image, digest: str) -> str:
        if image.environment:
            return self._names.image(image.environment, image.number)
        return self._names.unsettled(digest)

    async def _fetch(self, image: Image, progress: Progress) -> None:
        if image.path is not None:
            image = replace(image, digest=await self._import(image, image.path, progress))
        elif image.reference is None or image.pull == "never":
            raise PluginError(f"image {image.reference or image.digest} is not on this node, and is not to be fetched")
        else:
            await self._pull(image.reference, progress, image.auth)
            await self._must_lead(image, image.reference)
        if not await self._is_here(image):
            raise PluginError(f"image {image.reference or image.digest} was not fetched: the daemon ended without it")

    async def _import(self, image: Image, path: Path, progress: Progress) -> str:
        """The digest of the image that was in the file."""
        load = self._importer.bundle if await self._ctx.in_thread(path.is_dir) else self._importer.archive
        try:
            package = await load(path, image.digest, lambda digest: self._name(image, digest), progress)
        except Invalid as error:
            raise PluginError(error.message) from None
        return package.digest

    async def _must_lead(self, image: Image, reference: str) -> None:
        """Raises PluginError unless the name leads to the image that was meant."""
        try:
            found = await local.find(self._engine, reference)
        except NotFound:
            raise PluginError(f"image {reference} was not fetched: the daemon ended without it") from None
        if image.digest and found.id != image.digest:
            raise PluginError(f"image {reference} is {found.id}, and {image.digest} was wanted")

    async def _pull(self, reference: str, progress: Progress, auth: str | None) -> None:
        if reference.startswith("sha256:"):
            raise PluginError(f"image {reference} is not on this node, and an id cannot be fetched: name it")
        name, tag = local.split(reference)
        headers = {"X-Registry-Auth": auth or await sign_in(self._ctx, name)}
        params = {"fromImage": name, "tag": tag}
        progress(f"fetching {reference}")
        logger.info("image is fetched", extra={"action": "pull", "image": reference})
        told = Told(reference, progress, verb="fetching", done="fetched", moving="Downloading")
        await told.hear(self._engine, "/images/create", params=params, headers=headers, silence=self._silence)
