"""Archived output, and which attempts the host is done with."""

from collections.abc import Sequence
from dataclasses import dataclass

from kohakuriver.store.models import AttemptRow, OutputRow
from kohakuriver.store.reader import Reader


@dataclass(frozen=True, kw_only=True)
class StoredOutput:
    """One stream: the first `head` and the last `tail` of `size` bytes are kept, as bytes or in a blob."""

    size: int
    head: int
    tail: int
    at_least: bool
    data: bytes | None
    path: str | None


async def load_output(reader: Reader, attempt: str, stream: str) -> StoredOutput | None:
    """The stream as archived; None while it is not."""
    rows = await reader.of(OutputRow).filter(id=f"{attempt}/{stream}").values()
    if not rows:
        return None
    row = rows[0]
    return StoredOutput(
        size=row["size"],
        head=row["head"],
        tail=row["tail"],
        at_least=bool(row["at_least"]),
        data=None if row["data"] is None else bytes(row["data"]),
        path=row["path"],
    )


async def attempt_place(reader: Reader, attempt: str) -> int | None:
    """The node where an attempt ran; None when it never ran."""
    rows = await reader.of(AttemptRow).filter(id=attempt, started__isnull=False).values("node_id")
    return rows[0]["node_id"] if rows else None


async def attempts_done(reader: Reader, attempts: Sequence[str], *, node: int) -> tuple[set[str], set[str]]:
    """Of these attempts, as far as they are the node's: those of which the host has everything, and those that ended
    but whose output is not here.
    """
    mine = reader.of(AttemptRow).filter(id__in=list(attempts), node_id=node, finished__isnull=False)
    rows = await mine.values("id", "state")
    archived = {
        row["attempt_id"]
        for row in await reader.of(OutputRow).filter(attempt_id__in=list(attempts)).values("attempt_id")
    }
    exited = {row["id"] for row in rows if row["state"] == "exited"}
    done = {row["id"] for row in rows if row["id"] not in exited or row["id"] in archived}
    return done, exited - archived
