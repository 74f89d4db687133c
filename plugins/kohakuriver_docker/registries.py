"""What pulls and pushes have in common: signing in, progress by layer, and a sentence for each failure."""

import asyncio
import importlib
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from kohakuriver.errors import PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver_docker.engine import Engine, EngineError, Unreachable

logger = logging.getLogger(__name__)

MISSING = ("not found", "manifest unknown", "does not exist", "access denied", "repository name not known")
FULL = ("no space left", "disk quota exceeded")
SIGN_IN_LIMIT = 20.0


class _Count(msgspec.Struct):
    current: int = 0
    total: int = 0


class _Pushed(msgspec.Struct):
    digest: str = msgspec.field(name="Digest", default="")


class _Step(msgspec.Struct):
    """A line of `ImageCreate` or `ImagePush`."""

    status: str = ""
    id: str = ""
    error: str = ""
    detail: _Count | None = msgspec.field(name="progressDetail", default=None)
    aux: _Pushed | None = None


async def sign_in(ctx: Context, name: str) -> str:
    """What Docker's own client would sign in with (`docker login`), by the SDK; empty words without either."""
    try:
        async with asyncio.timeout(SIGN_IN_LIMIT):
            found = await ctx.in_thread(_stored_sign_in, name)
    except Exception as error:  # noqa: BLE001 -- a broken helper of somebody's: an image may need no sign-in; logged
        logger.warning("no sign-in for a registry", extra={"image": name, "error": str(error)})
        found = None
    return urlsafe_b64encode(json.dumps(found or {}).encode()).decode()


class Told:
    """Progress of one pull or push, from the daemon's lines."""

    def __init__(self, reference: str, progress: Progress, *, verb: str, done: str, moving: str) -> None:
        """`verb` and `done` are for people, such as fetching and fetched; `moving` is the daemon's word."""
        self._reference = reference
        self._progress = progress
        self._verb, self._done, self._moving = verb, done, moving
        self._layers: dict[str, _Count] = {}
        #: of the manifest, once it was pushed
        self.digest = ""

    async def hear(
        self, engine: Engine, path: str, *, params: Mapping[str, str], headers: Mapping[str, str], silence: float
    ) -> None:
        """Asks the daemon, and listens until it is through. Raises PluginError, also when nothing comes for `silence`
        seconds, and Unreachable.
        """
        what = f"image {self._reference} was not {self._done}"
        try:
            async with (
                asyncio.timeout(silence) as patience,
                engine.stream("POST", path, params=params, headers=headers) as response,
            ):
                while line := await response.content.readline():
                    patience.reschedule(asyncio.get_running_loop().time() + silence)
                    self.take(line)
        except EngineError as error:
            raise self.refused(error.message) from None
        except Unreachable:
            raise Unreachable(f"{what}: Docker went away meanwhile") from None
        except TimeoutError:
            raise PluginError(f"{what}: nothing came for {silence:g} s; is its registry up?") from None

    def take(self, line: bytes) -> None:
        """Raises PluginError for a line that tells of a failure."""
        try:
            step = msgspec.json.decode(line, type=_Step)
        except msgspec.DecodeError:
            return
        if step.error:
            raise self.refused(" ".join(step.error.split())[:1000])
        if step.aux is not None:
            self.digest = step.aux.digest or self.digest
        if step.detail is not None and step.detail.total and step.status == self._moving:
            self._layers[step.id] = step.detail
            done = sum(layer.current for layer in self._layers.values())
            total = sum(layer.total for layer in self._layers.values())
            self._progress(f"{self._verb} {self._reference}", min(done, total), total)

    def refused(self, message: str) -> PluginError:
        """The daemon's words as a sentence."""
        words = message.lower()
        what = f"image {self._reference} was not {self._done}"
        if any(word in words for word in FULL):
            return PluginError(f"{what}: this node's disk is full ({message})")
        if any(word in words for word in MISSING):
            return PluginError(f"{what}: there is no such image, or it needs a sign-in ({message})")
        return PluginError(f"{what}: {message}")


def _stored_sign_in(name: str) -> dict[str, Any] | None:
    """Blocks: helpers of `docker login` are programs. The SDK is loaded late, for its memory is that of many tasks."""
    auth = importlib.import_module("docker.auth")
    registry, _ = auth.resolve_repository_name(name)
    found: dict[str, Any] | None = auth.load_config().resolve_authconfig(registry)
    return found
