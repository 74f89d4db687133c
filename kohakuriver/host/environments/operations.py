"""What takes long: in memory, one at a time for a name, with progress that readers get as fast as they take it.

An operation that a restart of the host ends is gone; what it left is swept (contrib/notes/environments.md).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from kohakuriver.errors import Conflict, KohakuRiverError, NotFound
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.wire.environments import OperationProgress
from kohakuriver.wire.envs_api import DONE, FAILED, RUNNING, FailureView, OperationView

log = logging.getLogger(__name__)

#: operations that are remembered after their end
MOST_ENDED = 200
#: seconds between two events of one operation's progress
EVENT_SECONDS = 0.5
LONGEST_NOTE = 500


@dataclass(kw_only=True, eq=False)
class Operation:
    """One of them, as it stands."""

    id: int
    kind: str
    name: str
    by: str
    started: datetime
    state: str = RUNNING
    note: str = ""
    done: int | None = None
    total: int | None = None
    ended: datetime | None = None
    number: int | None = None
    moved: int | None = None
    error: KohakuRiverError | None = None
    #: what is to be done with every change
    changed: Callable[["Operation"], None] = field(repr=False)
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    told_at: float = float("-inf")
    _news: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def progress(self, told: OperationProgress) -> None:
        """How far it is now."""
        self.note = "".join(c if c.isprintable() else " " for c in told.note[:LONGEST_NOTE])
        self.done, self.total = told.done, told.total
        self.tell()

    def tell(self) -> None:
        """Wakes who follows."""
        self._news.set()
        self._news = asyncio.Event()
        self.changed(self)

    @property
    def news(self) -> asyncio.Event:
        """Set with the next change."""
        return self._news

    def view(self) -> OperationView:
        error = self.error
        return OperationView(
            id=str(self.id), kind=self.kind, name=self.name, state=self.state, note=self.note, done=self.done,
            total=self.total, by=self.by, started=self.started, ended=self.ended, number=self.number, moved=self.moved,
            error=None if error is None else FailureView(
                code=error.code, detail=error.message, field=error.field, value=error.value, limit=error.limit
            ),
        )  # fmt: skip


Work = Callable[[Operation], Awaitable[None]]


class Operations:
    """All of them, by id."""

    def __init__(self, group: asyncio.TaskGroup, clock: Clock, ids: Ids, changes: Changes) -> None:
        self._group = group
        self._clock = clock
        self._ids = ids
        self._changes = changes
        self._known: dict[int, Operation] = {}
        #: what is at work on a name: the operation, or words
        self._claimed: dict[str, Operation | None] = {}

    def start(self, kind: str, name: str, by: str, work: Work) -> Operation:
        """Begins at once, beside. Raises Conflict while something else is at work on the name."""
        self.check_free(name)
        operation = Operation(
            id=self._ids.next(), kind=kind, name=name, by=by, started=self._clock.now(), changed=self._changed
        )
        self._claimed[name] = operation
        self._known[operation.id] = operation
        self._forget_old()
        operation.task = self._group.create_task(self._run(operation, work))
        operation.tell()
        return operation

    def check_free(self, name: str) -> None:
        """Raises Conflict while something is at work on the name."""
        if name not in self._claimed:
            return
        other = self._claimed[name]
        doing = "something" if other is None else f"`{other.kind}` of {other.by} (operation {other.id})"
        raise Conflict(f"{name}: {doing} is under way; wait for its end", field="name", value=name)

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Something short that keeps operations away from the name for so long. Raises Conflict."""
        self.check_free(name)
        self._claimed[name] = None
        try:
            yield
        finally:
            del self._claimed[name]

    def all(self) -> list[Operation]:
        """Newest first."""
        return list(reversed(self._known.values()))

    def busy(self, name: str) -> bool:
        """Whether something is at work on the name now, be it long or short."""
        return name in self._claimed

    def get(self, ref: str) -> Operation:
        """Raises NotFound, also for one that is forgotten."""
        found = self._known.get(int(ref)) if ref.isascii() and ref.isdigit() and len(ref) < 20 else None
        if found is None:
            raise NotFound(
                f"there is no operation {ref!r}; those from before the host's start are gone",
                field="operation",
                value=ref,
            )
        return found

    async def follow(self, operation: Operation) -> AsyncIterator[OperationView]:
        """How it stands now, and again whenever that changed since the reader took the last, until its end."""
        while True:
            view, news = operation.view(), operation.news
            yield view
            if view.state != RUNNING:
                return
            await news.wait()

    def close(self) -> None:
        """Ends all of them."""
        for operation in self._known.values():
            if operation.task is not None:
                operation.task.cancel()

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            await work(operation)
            operation.state = DONE
        except KohakuRiverError as error:
            operation.state, operation.error = FAILED, error
            extra = {"action": "operation", "operation": operation.id, "kind": operation.kind, "name_": operation.name}
            log.info("an operation failed: %s", error, extra=extra)
        # a bug: the log is told, and whoever follows the operation
        except Exception:
            operation.state = FAILED
            operation.error = KohakuRiverError("something failed here; the log of the host has more")
            log.exception("an operation failed unexpectedly", extra={"action": "operation", "operation": operation.id})
        finally:
            if operation.state == RUNNING:
                operation.state, operation.error = FAILED, KohakuRiverError("the host stopped")
            operation.ended = self._clock.now()
            del self._claimed[operation.name]
            operation.tell()

    def _changed(self, operation: Operation) -> None:
        """Events say that it changed; how far it is, whoever may see it asks."""
        now = self._clock.monotonic()
        if operation.state == RUNNING and now - operation.told_at < EVENT_SECONDS:
            return
        operation.told_at = now
        self._changes.publish("operation", operation.id, operation.state)

    def _forget_old(self) -> None:
        ended = [operation for operation in self._known.values() if operation.state != RUNNING]
        for operation in ended[: max(0, len(ended) - MOST_ENDED)]:
            del self._known[operation.id]
