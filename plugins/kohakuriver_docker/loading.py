"""Images into the daemon: one archive of our own making for each, without the layers that are there already.

The daemon looks a layer up by its chain ID before it looks for its file. Every layer is hashed while it is sent; the
configuration and the manifest follow last, so that nothing of a spoiled image can be used.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec

from kohakuriver.errors import KohakuRiverError, PluginError, StorageFull
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver.hooks.packages import Layer, NeedsLayers, Package
from kohakuriver_docker.engine import Engine, EngineError, Unreachable
from kohakuriver_docker.steps import Step
from kohakuriver_docker.tars import END, header, padding

#: bytes that the slowest daemon takes in or gives out in a second, beside the patience of the settings
SLOWEST = 10 << 20
#: what a daemon says of a layer that it looked for in the archive
WANTED = "no such file or directory"
FULL = ("no space left", "disk quota exceeded")

#: layers with their contents, in any order; each content is read before the next is asked for
Contents = Iterator[tuple[Layer, Iterator[bytes]]]


class _Line(msgspec.Struct):
    """Of the answer to `ImageLoad`."""

    error: str = ""


class Loader:
    """Loads into one daemon."""

    def __init__(self, engine: Engine, ctx: Context, silence: float) -> None:
        self._engine = engine
        self._ctx = ctx
        self._silence = silence

    async def load(
        self,
        package: Package,
        name: str,
        sent: frozenset[str],
        contents: Callable[[frozenset[str]], Contents],
        progress: Progress,
    ) -> None:
        """Sends the layers `sent` with the image, which gets this local name.

        Raises NeedsLayers when the daemon wants those that were not sent too, PluginError, StorageFull, Unreachable.
        Cancelled, it breaks off: the daemon has all of it or nothing.
        """
        total = sum(
            layer.size for layer in {layer.digest: layer for layer in package.layers if layer.digest in sent}.values()
        )
        step = Step(self._ctx.in_thread, progress, "loading", total)
        try:
            said = await self._send(composed(package, name, sent, contents(sent), step), step, total)
        except EngineError as error:
            said = error.message
        except Unreachable:
            raise Unreachable(f"image {package.digest} was not loaded: Docker went away meanwhile") from None
        except TimeoutError:
            raise PluginError(
                f"image {package.digest} was not loaded: Docker did nothing for {self._silence:g} s"
            ) from None
        finally:
            await step.stop()
        if not said:
            return
        if any(word in said.lower() for word in FULL):
            raise StorageFull(f"image {package.digest} was not loaded: the disk of Docker is full ({said})")
        kept = {layer.digest for layer in package.layers} - sent
        if kept and WANTED in said.lower():
            raise NeedsLayers(f"image {package.digest} was not loaded: Docker wants every layer ({said})", kept)
        raise PluginError(f"image {package.digest} was not loaded: {said}")

    async def _send(self, pieces: Iterator[bytes], step: Step, total: int) -> str:
        """What the daemon said was wrong; "" for nothing. Raises TimeoutError when it is silent for too long."""
        failed: list[Exception] = []
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._silence) as limit:

                async def data() -> AsyncIterator[bytes]:
                    try:
                        while (piece := await step.run(next, pieces, None)) is not None:
                            limit.reschedule(loop.time() + self._silence)
                            yield piece
                    except (KohakuRiverError, OSError) as error:
                        failed.append(error)
                        limit.reschedule(loop.time())  # breaks the request off: an end would be a whole archive
                        await loop.create_future()
                    limit.reschedule(loop.time() + self._silence + total / SLOWEST)

                async with self._engine.stream("POST", "/images/load", data=data()) as response:
                    said = ""
                    while line := await response.content.readline():
                        limit.reschedule(loop.time() + self._silence + total / SLOWEST)
                        said = said or _error(line)
                    return said
        except TimeoutError:
            if failed:
                raise failed[0] from None
            raise


def composed(package: Package, name: str, sent: frozenset[str], contents: Contents, step: Step) -> Iterator[bytes]:
    """The archive in pieces. Raises PluginError, before anything that makes it one, when a content is not the layer."""
    left = set(sent)
    for layer, pieces in contents:
        left.discard(layer.digest)
        yield header(_file(layer.digest), layer.size)
        yield from step.count(_true(layer, pieces))
        yield padding(layer.size)
    if left:
        raise PluginError(f"image {package.digest}: its layer {min(left)} is not there")
    config = f"{package.digest.removeprefix('sha256:')}.json"
    layers = [_file(layer.digest) for layer in package.layers]
    manifest = json.dumps([{"Config": config, "RepoTags": [name], "Layers": layers}]).encode()
    for file, data in ((config, package.config), ("manifest.json", manifest)):
        yield header(file, len(data)) + data + padding(len(data))
    yield END


def _file(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}.tar"


def _true(layer: Layer, pieces: Iterator[bytes]) -> Iterator[bytes]:
    hashed = hashlib.sha256()
    size = 0
    for piece in pieces:
        hashed.update(piece)
        size += len(piece)
        if size > layer.size:
            break
        yield piece
    found = f"sha256:{hashed.hexdigest()}"
    if size != layer.size or found != layer.digest:
        raise PluginError(f"layer {layer.digest} has become {found}: it was changed while it was read, or is damaged")


def _error(line: bytes) -> str:
    try:
        return " ".join(msgspec.json.decode(line, type=_Line).error.split())[:1000]
    except msgspec.DecodeError:
        return ""
