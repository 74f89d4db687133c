"""Output that was too much to ride in a report is fetched to the host, so that it outlives its node; then the node may
forget the attempt.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kohakuriver.domain.tasks import parse_attempt
from kohakuriver.errors import Invalid, KohakuRiverError
from kohakuriver.host import records
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.commits import Commits
from kohakuriver.host.roster import Member
from kohakuriver.host.streams import Connection, Streams
from kohakuriver.store.output import attempts_done
from kohakuriver.store.reader import Reader
from kohakuriver.wire import codec, link

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
#: bytes of one stream that a node may keep and send; a larger announcement is a broken runner's
MOST_KEPT = 1024 * 1024 * 1024
AT_ONCE = 4
AGAIN = 10.0
#: reports after which a node has nothing more to say about an attempt
LAST_WORDS = frozenset({"exited", "refused_for_now", "refused_for_good", "start_failed", "never_started"})


class Header(msgspec.Struct, kw_only=True):
    """The first line of an archive stream."""

    stdout: link.Sealed = msgspec.field(default_factory=link.Sealed)
    stderr: link.Sealed = msgspec.field(default_factory=link.Sealed)


class Archive:
    """Fetches, stores, and tells nodes what they may forget."""

    def __init__(
        self, *, group: asyncio.TaskGroup, reader: Reader, commits: Commits, streams: Streams, blobs: Blobs
    ) -> None:
        self._group = group
        self._reader = reader
        self._commits = commits
        self._streams = streams
        self._blobs = blobs
        self._room = asyncio.Semaphore(AT_ONCE)
        self._fetching: set[str] = set()

    def ended(self, member: Member, report: link.Report) -> None:
        """A report was committed: forget the attempt if all of it is here, else fetch the rest."""
        if report.what not in LAST_WORDS:
            return
        if report.what != "exited" or records.inline(report):
            self._forget(member, [report.attempt])
        else:
            self._fetch_later(member, report.attempt)

    async def held(self, member: Member, held: Sequence[link.Held]) -> None:
        """What a node still holds at the beginning of a session: forget what is done, fetch what is not here."""
        over = [entry.attempt for entry in held if entry.phase in {"exited", "closed"} and _readable(entry.attempt)]
        for at in range(0, len(over), link.PAGE):
            page = over[at : at + link.PAGE]
            done, lacking = await attempts_done(self._reader, page)
            closed = {entry.attempt for entry in held if entry.phase == "closed"}
            self._forget(member, [attempt for attempt in page if attempt in done or attempt in closed - lacking])
            for attempt in lacking - closed:
                self._fetch_later(member, attempt)

    def _forget(self, member: Member, attempts: list[str]) -> None:
        if attempts and member.session is not None:
            member.session.send(link.Forget(attempts=attempts))

    def _fetch_later(self, member: Member, attempt: str) -> None:
        if attempt not in self._fetching:
            self._fetching.add(attempt)
            self._group.create_task(self._fetch(member, attempt))

    async def _fetch(self, member: Member, attempt: str) -> None:
        """Tries while the node is connected; the next session begins anew."""
        try:
            while member.connected:
                try:
                    async with self._room:
                        await self._once(member, attempt)
                except (KohakuRiverError, OSError, EOFError) as error:
                    log.warning("archive: %s", error, extra={"action": "archive", "attempt": attempt})
                    await asyncio.sleep(AGAIN)
                    continue
                self._forget(member, [attempt])
                return
        finally:
            self._fetching.discard(attempt)

    async def _once(self, member: Member, attempt: str) -> None:
        async with self._streams.open(member.id, "archive", attempt) as connection:
            header: Header = codec.decode(await connection.read_line(), Header, most=link.MOST_MESSAGE)
            statements = []
            for stream in STREAMS:
                sealed: link.Sealed = getattr(header, stream)
                kept = sealed.head + sealed.tail
                if min(sealed.head, sealed.tail) < 0 or kept > MOST_KEPT or kept > max(sealed.size, 0):
                    raise Invalid(
                        "the node announced more output than it may", field=stream, value=kept, limit=MOST_KEPT
                    )
                path = await self._store(connection, attempt, stream, kept)
                statements.append(records.output(attempt, stream, sealed, path=str(path)))
        try:
            await self._commits.write(statements)
        except KohakuRiverError as error:
            if getattr(error, "kind", None) != "unique":
                raise
            log.info("archived before", extra={"action": "archive", "attempt": attempt})

    async def _store(self, connection: Connection, attempt: str, stream: str, count: int) -> Path:
        async with self._blobs.writing(attempt, stream) as blob:
            left = count
            while left:
                data = await connection.read(min(left, 1 << 18))
                if not data:
                    raise EOFError(f"the node sent {count - left} of {count} bytes of {stream}")
                await blob.write(data)
                left -= len(data)
        return blob.name


def _readable(attempt: str) -> bool:
    try:
        parse_attempt(attempt)
    except ValueError:
        return False
    return True
