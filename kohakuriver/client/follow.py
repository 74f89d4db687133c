"""What takes long: following output, waiting for an end, the stream of changes. Breaks are bridged."""

import json
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

from kohakuriver.client.http import BROKEN, Client
from kohakuriver.client.patience import PASSING, Patience
from kohakuriver.errors import Unreachable
from kohakuriver.wire import urls

BYTES = "application/octet-stream"
#: seconds without a byte after which a stream is asked for again
SILENCE = 120.0
#: seconds that one request waits for an end
ONE_WAIT = 25.0
CHUNK = 64 * 1024
#: bytes that `last_lines` asks for first
FIRST_TAIL = 64 * 1024
LONGEST_LINE = 1024 * 1024
#: domain.tasks.FINAL and a VPS at rest, as words: that module costs a command more to load than the request takes
ENDED = frozenset({
    "completed", "failed", "killed", "killed_oom", "timed_out", "rejected", "lost", "removed", "stopped"
})  # fmt: skip


#: an attempt that has ended without the task's end, or none yet
WAITING = frozenset({"pending", "pending_approval"})


class Part(NamedTuple):
    """Which bytes of a task's output: from an offset on, or the last `tail` bytes."""

    stream: str = "stdout"
    attempt: int | None = None
    offset: int | None = None
    tail: int | None = None


class OutputReader:
    """Writes bytes of a task's output in order, each once. `offset` is where the next one lies.

    Bytes that the host no longer has are told of through `patience`, never invented.
    """

    def __init__(
        self, client: Client, task: str, part: Part, *, write: Callable[[bytes], object], patience: Patience
    ) -> None:
        self.client = client
        self.task = task
        self.part = part
        self.offset = part.offset
        self._write = write
        self._patience = patience

    def read(self) -> None:
        """What there is now. Raises Unreachable when it breaks off."""
        try:
            self._read_once(follow=False)
        except TimeoutError:
            raise Unreachable(f"the output of task {self.task} stopped at offset {self.offset}; try again") from None

    def follow(self) -> None:
        """Until the output ends, over breaks and silences. Raises Unreachable when the host stays away."""
        while True:
            try:
                return self._read_once(follow=True)
            except TimeoutError:
                continue
            except PASSING as error:
                self._patience.failed(error)

    def follow_to_end(self) -> None:
        """Until the task has ended and all that it wrote is here, through the time before it starts too."""
        ended = False
        while True:
            began = self._patience.clock()
            self.follow()
            if ended:
                return
            ended = is_over(self.client, self.task, self._patience)
            if not ended:
                self._patience.rest(began)

    def follow_attempts(self) -> None:
        """As `follow_to_end`, through all attempts of a task that is tried again; each begins at offset 0."""
        view = look(self.client, self.task, self._patience)
        number = view["attempt"] + 1 if view["status"] in WAITING else max(1, view["attempt"])
        while True:
            began = self._patience.clock()
            self.part = self.part._replace(attempt=number)
            self.follow()
            view = look(self.client, self.task, self._patience)
            over = view["attempt"] > number or (view["attempt"] == number and view["status"] in WAITING)
            if over:
                number += 1
                self.part = self.part._replace(offset=0, tail=None)
                self.offset = 0
                self._patience.tell(f"task {self.task} is tried again: attempt {number}")
            elif view["status"] in ENDED:
                # what came between its last byte and its end
                return self.follow()
            else:
                self._patience.rest(began)

    def _read_once(self, *, follow: bool) -> None:
        part = self.part if self.offset is None else self.part._replace(offset=self.offset, tail=None)
        timeout = SILENCE if follow else self.client.timeout
        path = _output_path(self.task, part, follow=follow)
        with self.client.stream(path, accept=BYTES, timeout=timeout) as response:
            self.offset, dropped = _offsets(response)
            self._patience.worked()
            if dropped:
                self._patience.tell(f"{part.stream}: at least {dropped} bytes before offset {self.offset} were dropped")
            if response.headers.get("X-At-Least"):
                self._patience.tell(f"{part.stream}: there may have been more: its runtime was away for a while")
            for data in _pieces(response, lambda: f"the output of task {self.task} broke off at offset {self.offset}"):
                self._write(data)
                self.offset += len(data)


def last_lines(client: Client, task: str, part: Part, lines: int) -> tuple[bytes, int]:
    """The last lines that there are now, and the offset after them. Raises Unreachable when it breaks off."""
    size = FIRST_TAIL
    while True:
        path = _output_path(task, part._replace(offset=None, tail=size), follow=False)
        with client.stream(path, accept=BYTES, timeout=client.timeout) as response:
            first, _dropped = _offsets(response)
            data = b"".join(_pieces(response, lambda: f"the last lines of task {task} broke off"))
        kept = data.split(b"\n")
        ending = [b""] if kept[-1] == b"" else []
        kept = kept[:-1] if ending else kept
        if len(kept) > lines or first == 0 or len(data) < size:
            wanted = kept[-lines:] if lines else []
            return b"\n".join(wanted + ending if wanted else []), first + len(data)
        size *= 8


def wait_for(client: Client, task: str, *, patience: Patience, until: float | None = None) -> dict[str, Any] | None:
    """The task when it has ended; None when `until`, a reading of the patience's clock, comes first."""
    while True:
        began = patience.clock()
        left = ONE_WAIT if until is None else max(0.0, min(ONE_WAIT, until - began))
        path = urls.fill(urls.TASK_WAIT, {"timeout": round(left, 1)}, task=task)
        try:
            view: dict[str, Any] = client.get(path, timeout=client.timeout + ONE_WAIT)
        except PASSING as error:
            patience.failed(error)
            continue
        patience.worked()
        if view.get("status") in ENDED:
            return view
        if until is not None and patience.clock() >= until:
            return None
        patience.rest(began)


def is_over(client: Client, task: str, patience: Patience) -> bool:
    """Whether the task has ended. Breaks are bridged."""
    return look(client, task, patience)["status"] in ENDED


def look(client: Client, task: str, patience: Patience) -> dict[str, Any]:
    """The task as it stands. Breaks are bridged."""
    while True:
        try:
            view: dict[str, Any] = client.get(urls.fill(urls.TASK, task=task))
        except PASSING as error:
            patience.failed(error)
        else:
            return view


def changes(client: Client, patience: Patience) -> Iterator[dict[str, Any]]:
    """What changes, for ever. The first and each one after a break is `hello`: look at everything again then."""
    path = urls.fill(urls.EVENTS, {"follow": 1})
    while True:
        try:
            with client.stream(path, accept="application/x-ndjson", timeout=SILENCE) as response:
                patience.worked()
                yield {"kind": "hello"}
                yield from _lines(response)
        except TimeoutError:
            continue
        except BROKEN:
            patience.failed(Unreachable("the stream of changes broke"))
        except PASSING as error:
            patience.failed(error)
        else:
            patience.failed(Unreachable("the stream of changes ended"))


def _pieces(response: HTTPResponse, broken: Callable[[], str]) -> Iterator[bytes]:
    """The body as it comes. Raises TimeoutError in silence, Unreachable with this sentence when it breaks off."""
    while True:
        try:
            data = response.read1(CHUNK)
        except TimeoutError:
            raise
        except BROKEN:
            raise Unreachable(broken()) from None
        if not data:
            if response.length:
                raise Unreachable(broken())
            return
        yield data


def _lines(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Each line's object. A line that is none is skipped: it says nothing that could be shown."""
    while line := response.readline(LONGEST_LINE):
        try:
            change = json.loads(line)
        except ValueError:
            continue
        if isinstance(change, dict) and change.get("kind") != "hello":
            yield change


def _output_path(task: str, part: Part, *, follow: bool) -> str:
    query: dict[str, object] = {
        "offset": part.offset,
        "tail": part.tail,
        "attempt": part.attempt,
        "follow": 1 if follow else None,
    }
    return urls.fill(urls.TASK_OUTPUT, query, task=task, stream=part.stream)


def _offsets(response: HTTPResponse) -> tuple[int, int]:
    """Where the first byte lies, and how many are missing before it."""
    values = (response.headers.get(name, "0") for name in ("X-Offset", "X-Dropped"))
    first, dropped = (int(text) if text.isdecimal() else 0 for text in values)
    return first, dropped
