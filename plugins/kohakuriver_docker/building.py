"""Images built from a context by the daemon's own builder, and what a build that was cut off leaves.

The builder marks its intermediate images with nothing, so those that it tells of are written down as they come.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from kohakuriver.errors import Invalid, KohakuRiverError, PluginError
from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.context import Context
from kohakuriver_docker import contexts
from kohakuriver_docker.engine import LONG, Engine, EngineError
from kohakuriver_docker.inspected import inspect
from kohakuriver_docker.names import Names
from kohakuriver_docker.packaging import BUILD, Line, Packaging

logger = logging.getLogger(__name__)

#: seconds without a word from the builder: a step may compile for long and say nothing
SILENCE = 3600.0
#: characters of a line of the log, and of the error
LONGEST = 300
STEP = re.compile(r"Step (\d+/\d+) : (\w+)", re.IGNORECASE)
MADE = re.compile(r" ---> ([0-9a-f]{12})\s*")


class Building:
    """Builds of one runner."""

    def __init__(
        self,
        engine: Engine,
        names: Names,
        ctx: Context,
        packaging: Packaging,
        *,
        network: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """`network` makes sure of the private one; None: builds have none."""
        self._engine = engine
        self._names = names
        self._ctx = ctx
        self._packaging = packaging
        self._network = network
        self._folder = ctx.state / "builds"
        #: files that tell of the parts of images that are being built
        self._under_way: set[Path] = set()

    async def build(self, context: Path, dockerfile: str, progress: Progress) -> str:
        """The digest of the image. Raises Invalid for a context that is no tar, PluginError naming the step."""
        await self._ctx.in_thread(contexts.check, context)
        if self._network is not None:
            await self._network()
        reference = self._packaging.pending(BUILD)
        notes = self._folder / secrets.token_hex(8)
        self._under_way.add(notes)
        try:
            await self._build(context, dockerfile, reference, notes, _Log(progress))
            digest = (await inspect(self._engine, reference)).id
        except BaseException:
            await self._packaging.untag(reference)
            raise
        finally:
            self._under_way.discard(notes)
            with contextlib.suppress(KohakuRiverError):  # else the next sweep does it
                if await self._forget(notes):
                    await self._ctx.in_thread(_unlink, notes)
        await self._ctx.in_thread(_unlink, notes)
        return digest

    async def _build(self, context: Path, dockerfile: str, reference: str, notes: Path, log: "_Log") -> None:
        params = {
            "t": reference,
            "dockerfile": dockerfile,
            "rm": "1",
            "forcerm": "1",
            "nocache": "1",  # nobody's layers but those of the images that it names
            "networkmode": "none" if self._network is None else self._names.network,
            "version": "1",
        }
        sent = _Sent(contexts.pieces(context), self._ctx)
        try:
            async with (
                asyncio.timeout(SILENCE) as limit,
                self._engine.stream("POST", "/build", params=params, data=sent.pieces(limit)) as response,
            ):
                while line := await response.content.readline():
                    _wait_on(limit)
                    made = log.take(line)
                    if made:
                        await self._ctx.in_thread(_note, notes, made)
        except EngineError as error:
            raise PluginError(f"the image was not built: {error.message}") from None
        except TimeoutError:
            if sent.failure is not None:
                raise sent.failure from None
            raise PluginError(f"the image was not built: its builder said nothing for {SILENCE:g} s") from None

    async def sweep(self) -> None:
        """Removes what builds that nobody waits for any more have left."""
        for notes in await self._ctx.in_thread(_listed, self._folder):
            if notes not in self._under_way:
                await self._forget(notes)
                await self._ctx.in_thread(_unlink, notes)

    async def _forget(self, notes: Path) -> bool:
        """Removes the images that the file tells of, but not what has a name or is used. Whether none is left."""
        free = True
        for image in reversed(await self._ctx.in_thread(_noted, notes)):
            try:
                if not (await inspect(self._engine, image)).tags:
                    await self._engine.send("DELETE", f"/images/{image}", params={"noprune": "1"}, limit=LONG)
            except EngineError as error:
                if error.status not in (404, 409):
                    raise
                free = free and error.status == 404
        return free


class _Log:
    """Takes the builder's lines and passes them on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        #: where it is, such as " at step 2/3 (RUN)"
        self._at = ""
        self._is_new = False

    def take(self, line: bytes) -> Sequence[str]:
        """The images that it says were made. Raises PluginError for a line that tells of a failure."""
        try:
            told = msgspec.json.decode(line, type=Line)
        except msgspec.DecodeError:
            return ()
        if told.error:
            raise PluginError(f"the image was not built{self._at}: {' '.join(told.error.split())[:LONGEST]}")
        made: list[str] = []
        for text in (told.stream or told.status).splitlines():
            made += self._made(text)
            if text.strip():
                self._progress(text.rstrip()[:LONGEST])
        return made

    def _made(self, text: str) -> Sequence[str]:
        """The image of a step is new, unless the step only names the one to begin with."""
        step = STEP.match(text)
        if step is not None:
            self._at = f" at step {step[1]} ({step[2].upper()})"
            self._is_new = step[2].upper() != "FROM"
        made = MADE.fullmatch(text)
        return [made[1]] if made is not None and self._is_new else []


class _Sent:
    """The context on its way. A damaged one must not look like a daemon that is gone: it is given up from outside."""

    def __init__(self, content: Iterator[bytes], ctx: Context) -> None:
        self._content = content
        self._in_thread = ctx.in_thread
        self.failure: Invalid | None = None

    async def pieces(self, limit: asyncio.Timeout) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._in_thread(next, self._content, None)) is not None:
                _wait_on(limit)
                yield piece
        except Invalid as error:
            self.failure = error
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()


def _wait_on(limit: asyncio.Timeout) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + SILENCE)


def _listed(folder: Path) -> Sequence[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _noted(notes: Path) -> list[str]:
    try:
        return [line for line in notes.read_text().splitlines() if re.fullmatch(r"[0-9a-f]{12}", line)]
    except FileNotFoundError:
        return []


def _note(notes: Path, images: Sequence[str]) -> None:
    notes.parent.mkdir(mode=0o700, exist_ok=True)
    with notes.open("a") as file:
        file.writelines(f"{image}\n" for image in images)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
