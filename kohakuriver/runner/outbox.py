"""Reports that the host has not acknowledged, in order. The journal owns the rows; this is their mirror and window."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

#: reports and bytes that may be on their way without an acknowledgement
WINDOW = 256
WINDOW_BYTES = 4 * 1024 * 1024
#: above either no new assignment is taken; what happened is always kept
MOST_ROWS = 100_000
MOST_BYTES = 64 * 1024 * 1024
#: bytes of newest reports kept in memory; older ones are read from the journal when their turn comes
MOST_CACHED = 8 * 1024 * 1024


def _nobody() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Line:
    """One report that waits."""

    seq: int
    attempt: str
    size: int


class Outbox:
    """Appended by the journal after its commit, drained by the link's writer, shortened by acknowledgements."""

    def __init__(self) -> None:
        #: called when there may be something to send; the present session's
        self.wake: Callable[[], None] = _nobody
        self._lines: OrderedDict[int, Line] = OrderedDict()
        self._unsent: deque[Line] = deque()
        self._flying: deque[Line] = deque()
        self._flying_bytes = 0
        self._cache: dict[int, bytes] = {}
        self._cached = 0
        self._bytes = 0
        self._waiting: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def full(self) -> bool:
        """Whether the host has been away for so long that nothing new should be taken."""
        return len(self._lines) >= MOST_ROWS or self._bytes >= MOST_BYTES

    def waits(self, attempt: str) -> bool:
        """Whether a report of this attempt is not acknowledged yet."""
        return attempt in self._waiting

    def load(self, line: Line) -> None:
        """A row found at the start."""
        self._add(line)

    def append(self, seq: int, attempt: str, payload: bytes) -> None:
        """A report that was just committed."""
        self._add(Line(seq=seq, attempt=attempt, size=len(payload)))
        if self._cached + len(payload) <= MOST_CACHED:
            self._cache[seq] = payload
            self._cached += len(payload)
        self.wake()

    def next(self) -> Line | None:
        """The next report to send, if there is one and the window is open. It counts as sent."""
        if not self._unsent or len(self._flying) >= WINDOW or self._flying_bytes >= WINDOW_BYTES:
            return None
        line = self._unsent.popleft()
        self._flying.append(line)
        self._flying_bytes += line.size
        return line

    def cached(self, seq: int) -> bytes | None:
        """The report's bytes, unless they have to be read."""
        return self._cache.get(seq)

    def rewind(self) -> None:
        """A new session: everything that is not acknowledged is sent again, from the first."""
        self._unsent = deque(self._lines.values())
        self._flying.clear()
        self._flying_bytes = 0

    def acknowledge(self, seq: int) -> None:
        """Forgets all reports up to `seq`. May come twice."""
        while self._flying and self._flying[0].seq <= seq:
            self._flying_bytes -= self._flying.popleft().size
        while self._unsent and self._unsent[0].seq <= seq:
            self._unsent.popleft()
        while self._lines:
            first = next(iter(self._lines))
            if first > seq:
                break
            self._drop(self._lines.pop(first))
        self.wake()

    def _add(self, line: Line) -> None:
        self._lines[line.seq] = line
        self._unsent.append(line)
        self._bytes += line.size
        self._waiting[line.attempt] = self._waiting.get(line.attempt, 0) + 1

    def _drop(self, line: Line) -> None:
        self._bytes -= line.size
        payload = self._cache.pop(line.seq, None)
        self._cached -= len(payload or b"")
        left = self._waiting[line.attempt] - 1
        if left:
            self._waiting[line.attempt] = left
        else:
            del self._waiting[line.attempt]
