"""A terminal in an environment container: frames between a client and the builder, both ways, with a beginning and an
end in the history. Knows no HTTP: the client is a connection.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kohakuriver.domain.access import Actor
from kohakuriver.domain.environments import check_environment
from kohakuriver.errors import Invalid, KohakuRiverError, Malformed, Unreachable
from kohakuriver.host import records
from kohakuriver.host.cause import by
from kohakuriver.host.environments.asks import Conversation, read
from kohakuriver.host.environments.audit import audited
from kohakuriver.host.host import Host
from kohakuriver.host.streams import Connection
from kohakuriver.wire import codec, frames
from kohakuriver.wire.environments import Failure, Shell, ShellEnded
from kohakuriver.wire.frames import Kind

log = logging.getLogger(__name__)

PIECE = 64 * 1024
MOST_WORDS, LONGEST_WORD = 256, 4096
#: what a client may send
TYPED = frozenset({Kind.DATA, Kind.WINDOW, Kind.END})
ENDS = frozenset({Kind.RESULT, Kind.ERROR})


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What terminal somebody wants."""

    container: str
    argv: Sequence[str]
    columns: int
    rows: int
    term: str


@asynccontextmanager
async def opened_shell(host: Host, actor: Actor, wanted: Wanted) -> AsyncIterator[Conversation]:
    """The builder's side of it. Raises NotAllowed, Invalid, NoBuilder, Unreachable before anything is joined."""
    check_environment(wanted.container, "container")
    if len(wanted.argv) > MOST_WORDS or any("\0" in word or len(word) > LONGEST_WORD for word in wanted.argv):
        raise Invalid("that is no command", field="argv", limit=f"{MOST_WORDS} words without NUL bytes")
    parts = host.environments
    builder = parts.builder()
    await audited(host, actor, "shell", container=wanted.container, argv=" ".join(wanted.argv)[:500])
    question = Shell(
        name=wanted.container,
        argv=list(wanted.argv),
        columns=wanted.columns,
        rows=wanted.rows,
        env={"TERM": wanted.term},
    )
    async with parts.asker.opened(builder.id, question) as talk:
        yield talk


async def join_shell(host: Host, actor: Actor, wanted: Wanted, talk: Conversation, client: Connection) -> None:
    """Relays until the program ends, or the client or the builder goes; what one writes waits for the other to read."""
    code: int | None = None
    cause = "the client went away"
    try:
        end = await _relay(talk, client)
        if end is not None:
            code, cause = end
    finally:
        event = records.event(
            host.ids.next(), host.clock.now(), "environment_shell_ended", by(actor), user=actor.id,
            detail={"container": wanted.container, "code": code, "how": cause},
        )  # fmt: skip
        # also where the client's request was cancelled: the write goes on in the role's own group
        with contextlib.suppress(KohakuRiverError):
            await host.commits.write(records.events([event]))


async def _relay(talk: Conversation, client: Connection) -> tuple[int | None, str] | None:
    """The exit code and how it ended; None when the client went first."""
    async with asyncio.TaskGroup() as group:
        printed = group.create_task(_printed(talk, client))
        typed = group.create_task(_typed(talk, client))
        await asyncio.wait({printed, typed}, return_when=asyncio.FIRST_COMPLETED)
        ended = printed.done()
        printed.cancel()
        typed.cancel()
    return printed.result() if ended else None


async def _typed(talk: Conversation, client: Connection) -> None:
    """What the client sends, until it goes or sends what is no frame of a terminal."""
    reader = frames.Reader()
    try:
        while data := await client.read(PIECE):
            for kind, payload in reader.feed(data):
                if kind not in TYPED:
                    return
                await talk.send(kind, payload)
    except (OSError, Malformed):
        return
    except Unreachable:
        # what the builder said before it went is still read beside
        await asyncio.Event().wait()


async def _printed(talk: Conversation, client: Connection) -> tuple[int | None, str] | None:
    """What the builder sends, to its last frame. None when the client takes no more."""
    try:
        try:
            async for kind, payload in talk.frames():
                await client.write(frames.frame(kind, payload))
                if kind in ENDS:
                    return _end(kind, payload)
            error: KohakuRiverError = Unreachable("the node ended without the program's exit code")
        except (KohakuRiverError, ValueError) as failed:
            error = failed if isinstance(failed, KohakuRiverError) else Unreachable(str(failed))
        await client.write(frames.frame(Kind.ERROR, codec.encode(Failure(code=error.code, message=error.message))))
    except OSError:
        return None
    return None, error.message


def _end(kind: Kind, payload: bytes) -> tuple[int | None, str]:
    if kind is Kind.ERROR:
        return None, "it failed"
    try:
        ended: ShellEnded = read(payload, ShellEnded)
    except KohakuRiverError:
        return None, "it ended, and its exit code cannot be read"
    return ended.code, "the program ended"
