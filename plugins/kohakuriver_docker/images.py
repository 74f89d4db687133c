"""Images: those that are here, and those that the daemon fetches, with progress and a sentence for each failure."""

import asyncio
import importlib
import json
import logging
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Image
from kohakuriver_docker.engine import Engine, EngineError, Unreachable

logger = logging.getLogger(__name__)

MISSING = ("not found", "manifest unknown", "does not exist", "access denied", "repository name not known")
FULL = ("no space left", "disk quota exceeded")
SIGN_IN_LIMIT = 20.0
#: seconds for which an image that was here a moment ago is not asked for again
STILL_HERE = 1.0


class _Count(msgspec.Struct):
    current: int = 0
    total: int = 0


class _Step(msgspec.Struct):
    """A line of `ImageCreate`."""

    status: str = ""
    id: str = ""
    error: str = ""
    detail: _Count | None = msgspec.field(name="progressDetail", default=None)


class Images:
    """Those of one daemon. An image is fetched once, however many tasks wait for it."""

    def __init__(self, engine: Engine, ctx: Context, silence: float) -> None:
        self._engine = engine
        self._ctx = ctx
        self._silence = silence
        #: by reference, for as long as anybody fetches it or waits
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: the reference that was found here last, and when: tasks of one submission come together
        self._last = ("", 0.0)

    async def prepare(self, image: Image, progress: Progress) -> None:
        """Returns when the image is here. Cancelled, it ends the fetching; what came so far serves the next."""
        reference = image.reference or ""
        if await self._is_here(reference):
            return
        turn = self._turns.setdefault(reference, asyncio.Lock())
        if turn.locked():
            progress(f"{reference} is being fetched for another task")
        async with turn:
            if not await self._is_here(reference):
                await self._pull(reference, progress, image.auth)

    async def _is_here(self, reference: str) -> bool:
        now = time.monotonic()
        if self._last[0] == reference and now - self._last[1] < STILL_HERE:
            return True
        try:
            await self._engine.send("GET", f"/images/{quote(reference, safe='/:@')}/json")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        self._last = reference, now
        return True

    async def _pull(self, reference: str, progress: Progress, auth: str | None) -> None:
        if reference.startswith("sha256:"):
            raise PluginError(f"image {reference} is not on this node, and an id cannot be fetched: name it")
        name, tag = _split(reference)
        headers = {"X-Registry-Auth": auth or await self._sign_in(name)}
        params = {"fromImage": name, "tag": tag}
        progress(f"fetching {reference}")
        logger.info("image is fetched", extra={"action": "pull", "image": reference})
        try:
            async with (
                asyncio.timeout(self._silence) as patience,
                self._engine.stream("POST", "/images/create", params=params, headers=headers) as response,
            ):
                told = _Told(reference, progress)
                while line := await response.content.readline():
                    patience.reschedule(asyncio.get_running_loop().time() + self._silence)
                    told.take(line)
        except EngineError as error:
            raise PluginError(_sentence(reference, error.message)) from None
        except Unreachable:
            raise Unreachable(f"image {reference} was not fetched: Docker went away meanwhile") from None
        except TimeoutError:
            raise PluginError(
                f"image {reference} was not fetched: nothing came for {self._silence:g} s; is its registry up?"
            ) from None
        if not await self._is_here(reference):
            raise PluginError(f"image {reference} was not fetched: the daemon ended without it")

    async def _sign_in(self, name: str) -> str:
        """What Docker's own client would sign in with (`docker login`), by the SDK; empty words without either."""
        try:
            async with asyncio.timeout(SIGN_IN_LIMIT):
                found = await self._ctx.in_thread(_stored_sign_in, name)
        except Exception as error:  # noqa: BLE001 -- a broken helper of somebody's: an image may need no sign-in; logged
            logger.warning("no sign-in for a registry", extra={"image": name, "error": str(error)})
            found = None
        return urlsafe_b64encode(json.dumps(found or {}).encode()).decode()


class _Told:
    """Progress of one pull, from the daemon's lines."""

    def __init__(self, reference: str, progress: Progress) -> None:
        self._reference = reference
        self._progress = progress
        self._layers: dict[str, _Count] = {}

    def take(self, line: bytes) -> None:
        """Raises PluginError for a line that tells of a failure."""
        try:
            step = msgspec.json.decode(line, type=_Step)
        except msgspec.DecodeError:
            return
        if step.error:
            raise PluginError(_sentence(self._reference, step.error))
        if step.detail is not None and step.detail.total and step.status == "Downloading":
            self._layers[step.id] = step.detail
            done = sum(layer.current for layer in self._layers.values())
            self._progress(f"fetching {self._reference}", done, sum(layer.total for layer in self._layers.values()))


def _stored_sign_in(name: str) -> dict[str, Any] | None:
    """Blocks: helpers of `docker login` are programs. The SDK is loaded late, for its memory is that of many tasks."""
    auth = importlib.import_module("docker.auth")
    registry, _ = auth.resolve_repository_name(name)
    found: dict[str, Any] | None = auth.load_config().resolve_authconfig(registry)
    return found


def _split(reference: str) -> tuple[str, str]:
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def _sentence(reference: str, message: str) -> str:
    words = message.lower()
    if any(word in words for word in FULL):
        return f"image {reference} was not fetched: this node's disk is full ({message})"
    if any(word in words for word in MISSING):
        return f"image {reference} was not fetched: there is no such image, or it needs a sign-in ({message})"
    return f"image {reference} was not fetched: {message}"
