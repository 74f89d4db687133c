"""Output that was too much to ride in a report is fetched to the host, so that it outlives its node; then the node may
forget the attempt.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kohakuriver.domain.attempts import attempt_or_none, parse_attempt
from kohakuriver.domain.tasks import HOLDING
from kohakuriver.errors import Invalid, KohakuRiverError
from kohakuriver.host import records
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.board import Board
from kohakuriver.host.commits import Commits
from kohakuriver.host.roster import Member
from kohakuriver.host.streams import Connection, Streams
from kohakuriver.store.output import attempts_done
from kohakuriver.store.reader import Reader
from kohakuriver.store.write import ConstraintFailed
from kohakuriver.wire import codec, link

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
#: bytes of one stream that a node may keep and send; a larger announcement is a broken runner's
MOST_KEPT = 1024 * 1024 * 1024
#: attempts of one node that are fetched at once
AT_ONCE = 2
AGAIN = 10.0
#: what may be forgotten within this time is told at once
GATHER_SECONDS = 0.05
#: seconds without a byte after which a stream is given up
STALLED = 60.0
#: reports after which a node has nothing more to say about an attempt
LAST_WORDS = frozenset({"exited", "refused_for_now", "refused_for_good", "start_failed", "never_started"})


class Header(msgspec.Struct, kw_only=True):
    """The first line of an archive stream."""

    stdout: link.Sealed
    stderr: link.Sealed


class Archive:
    """Fetches, stores, and tells nodes what they may forget."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        reader: Reader,
        commits: Commits,
        streams: Streams,
        blobs: Blobs,
        board: Board,
    ) -> None:
        #: attempts whose exit has just been committed with all of their output, told by whoever committed it
        self.complete: set[str] = set()
        self._group = group
        self._reader = reader
        self._commits = commits
        self._streams = streams
        self._blobs = blobs
        self._board = board
        self._rooms: dict[int, asyncio.Semaphore] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        #: what nodes are about to be told to forget, by node
        self._forgets: dict[int, dict[str, None]] = {}
        #: when each node was told last, by the loop's clock
        self._told: dict[int, float] = {}

    async def ended(self, member: Member, reports: Sequence[link.Report]) -> None:
        """Reports were committed: forget the attempts of which all is here, fetch the rest."""
        over = {report.attempt: report.what != "exited" for report in reports if report.what in LAST_WORDS}
        complete = self.complete & over.keys()
        self.complete -= complete
        self._forget(member, sorted(complete))
        await self._settle(member, {attempt: never for attempt, never in over.items() if attempt not in complete})

    async def held(self, member: Member, held: Sequence[link.Held]) -> None:
        """What a node still holds at the beginning of a session: forget what is done, fetch what is not here."""
        over = {entry.attempt: entry.phase == "closed" for entry in held if entry.phase in {"exited", "closed"}}
        # those of which a session that broke off did not hear
        self.complete -= over.keys()
        await self._settle(member, over)

    async def _settle(self, member: Member, over: dict[str, bool]) -> None:
        """Attempts by whether they never ran. Only what was placed on this very node is fetched from it."""
        attempts = [attempt for attempt in over if attempt_or_none(attempt) is not None]
        for at in range(0, len(attempts), link.PAGE):
            page = attempts[at : at + link.PAGE]
            done, lacking = await attempts_done(self._reader, page, node=member.id)
            let_go = [a for a in page if a in done or (over[a] and a not in lacking)]
            self._forget(member, [attempt for attempt in let_go if not self._under_way(attempt)])
            for attempt in page:
                if attempt in lacking and not over[attempt]:
                    self._fetch_later(member, attempt)

    def _under_way(self, attempt: str) -> bool:
        """Whether the host has not heard the end of this very attempt: without its tombstone, an assignment that is
        sent again would start what was refused.
        """
        task = self._board.get(parse_attempt(attempt)[0])
        return task is not None and task.status in HOLDING and task.attempt == attempt

    def _forget(self, member: Member, attempts: list[str]) -> None:
        """Tells the node at once, or together with what comes soon after the last time: nobody waits for it."""
        waiting = self._forgets.setdefault(member.id, {})
        if attempts and not waiting:
            self._group.create_task(self._tell(member))
        waiting.update(dict.fromkeys(attempts))

    async def _tell(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._told.get(member.id, 0.0) + GATHER_SECONDS - loop.time())
        self._told[member.id] = loop.time()
        attempts = list(self._forgets.pop(member.id))
        for at in range(0, len(attempts), link.PAGE):
            if member.session is not None and member.connected:  # otherwise the next session's inventory asks for it
                member.session.send(link.Forget(attempts=attempts[at : at + link.PAGE]))

    def _fetch_later(self, member: Member, attempt: str) -> None:
        if attempt not in self._fetching:
            self._fetching[attempt] = self._group.create_task(self._fetch(member, attempt))

    def close(self) -> None:
        """Gives up what is being fetched; the next start asks again."""
        for task in self._fetching.values():
            task.cancel()

    async def _fetch(self, member: Member, attempt: str) -> None:
        """Tries while the node is connected; the next session begins anew."""
        room = self._rooms.setdefault(member.id, asyncio.Semaphore(AT_ONCE))
        try:
            while member.connected:
                try:
                    async with room:
                        await self._once(member, attempt)
                except (KohakuRiverError, OSError, EOFError) as error:
                    log.warning("archive: %s", error, extra={"action": "archive", "attempt": attempt})
                    await asyncio.sleep(AGAIN)
                    continue
                self._forget(member, [attempt])
                return
        finally:
            self._fetching.pop(attempt, None)

    async def _once(self, member: Member, attempt: str) -> None:
        async with self._streams.open(member.id, "archive", attempt) as connection:
            async with asyncio.timeout(STALLED):
                line = await connection.read_line()
            if not line.endswith(b"\n"):
                raise EOFError("the node sent half a header")
            header: Header = codec.decode(line, Header, most=link.MOST_MESSAGE)
            statements = []
            for stream in STREAMS:
                sealed: link.Sealed = getattr(header, stream)
                kept = sealed.head + sealed.tail
                if kept > min(MOST_KEPT, sealed.size):
                    raise Invalid(
                        "the node announced more output than it may", field=stream, value=kept, limit=MOST_KEPT
                    )
                path = await self._store(connection, attempt, stream, kept)
                statements.append(records.output(attempt, stream, sealed, path=str(path)))
        try:
            await self._commits.write(statements)
        except ConstraintFailed as error:
            if error.kind != "unique":
                raise
            log.info("archived before", extra={"action": "archive", "attempt": attempt})

    async def _store(self, connection: Connection, attempt: str, stream: str, count: int) -> Path:
        async with self._blobs.writing(attempt, stream) as blob:
            left = count
            while left:
                async with asyncio.timeout(STALLED):
                    data = await connection.read(min(left, 1 << 18))
                if not data:
                    raise EOFError(f"the node sent {count - left} of {count} bytes of {stream}")
                await blob.write(data)
                left -= len(data)
        return blob.name
