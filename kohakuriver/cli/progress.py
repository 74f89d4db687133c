"""How far a long operation is: a bar on a terminal, a line for each step elsewhere. Writes to stderr alone."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kohakuriver.cli.clean import clean
from kohakuriver.cli.output import Output
from kohakuriver.cli.shown import seconds, size

BAR = 24
#: seconds between two pictures of a bar, and over which a rate is measured
PICTURE, RATE = 0.1, 5.0


class Progress:
    """One operation's. `show` takes what the host says of it; `close` leaves the last line standing."""

    def __init__(self, out: Output, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._live = out.stderr.isatty() and not out.style.quiet
        self._note = ""
        self._drawn = float("-inf")
        self._points: list[tuple[float, int]] = []
        self._open = False

    def show(self, view: Mapping[str, Any]) -> None:
        """`note`, and bytes `done` of `total` where they are known."""
        note = str(view.get("note") or "")
        done, total = view.get("done"), view.get("total")
        if note != self._note:
            self._note, self._points = note, []
            if not self._live and note:
                self._out.note(note)
            self._end_line()
            self._drawn = float("-inf")
        if self._live and note:
            now = self._clock()
            if isinstance(done, int):
                self._points = [(at, count) for at, count in self._points if now - at <= RATE] + [(now, done)]
            if now - self._drawn >= PICTURE or (done is not None and done == total):
                self._drawn = now
                self._draw(done, total)

    def close(self) -> None:
        """May be called twice."""
        self._end_line()

    def _draw(self, done: object, total: object) -> None:
        line = picture(self._note, done, total, self._rate())
        width = shutil.get_terminal_size().columns - 1
        self._out.stderr.write(f"\r\x1b[K{line[:width]}")
        self._out.stderr.flush()
        self._open = True

    def _rate(self) -> float | None:
        """Bytes a second over the last moments."""
        if len(self._points) < 2:
            return None
        (first, before), (last, now) = self._points[0], self._points[-1]
        return (now - before) / (last - first) if last > first else None

    def _end_line(self) -> None:
        if self._open:
            self._out.stderr.write("\n")
            self._out.stderr.flush()
            self._open = False


def picture(note: str, done: object, total: object, rate: float | None) -> str:
    """One line: words, bar, bytes, rate and what is left of the time."""
    words = clean(note)
    if not isinstance(done, int):
        return words
    if not isinstance(total, int) or total <= 0:
        return f"{words}  {size(done)}{_per_second(rate)}"
    part = min(1.0, done / total)
    full = round(part * BAR)
    left = f", {seconds((total - done) / rate)} left" if rate and done < total else ""
    return f"{words}  [{'#' * full}{'.' * (BAR - full)}] {size(done)} of {size(total)}{_per_second(rate)}{left}"


def sent(pieces: Iterable[bytes], total: int | None, progress: Progress, note: str) -> Iterator[bytes]:
    """The pieces as they are, while their sum is shown."""
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        progress.show({"note": note, "done": done, "total": total})


def _per_second(rate: float | None) -> str:
    return f", {size(rate)}/s" if rate is not None and rate >= 1 else ""
