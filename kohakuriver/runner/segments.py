"""The kept bytes of one stream of output in files: its first ones and its last ones. Blocks; used in threads.

A file is named by its stream and the offset of its first byte, so that the directory alone tells what is there.
"""

import contextlib
import os
import threading
from pathlib import Path

from kohakuriver.runner.settings import OutputLimits

_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Segments:
    """One stream. A thread that nobody waits for any more may be writing when the next one comes: it goes first."""

    def __init__(self, directory: Path, stream: str, limits: OutputLimits) -> None:
        self.directory = directory
        self.stream = stream
        self.limits = limits
        #: (first offset, length), ascending; the one that starts at 0 is the head
        self.parts: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    @property
    def end(self) -> int:
        """The offset behind the last byte that was written."""
        start, length = self.parts[-1] if self.parts else (0, 0)
        return start + length

    def load(self) -> None:
        """Reads from the directory what an earlier run wrote."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                stream, dot, offset = path.name.partition(".")
                if stream == self.stream and dot and offset.isdigit():
                    found.append((int(offset), path.lstat().st_size))
        self.parts = sorted(part for part in found if part[1])

    def write(self, offset: int, data: bytes) -> None:
        """Appends. An offset behind the end is a gap: what lies between the head and the gap is given up. Bytes that
        are there already, by a call that nobody waited for, are skipped.

        Raises OSError when the disk takes no more; the rest of this call is not kept then.
        """
        with self._lock:
            done = max(0, self.end - offset)
            self._append(offset + done, data[done:])

    def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """The first kept bytes at or after the offset, and where they lie; empty when there are none.

        Raises FileNotFoundError when they were removed meanwhile: that is no end of the output.
        """
        with self._lock:
            for start, length in self.parts:
                if offset < start + length:
                    at = max(offset, start)
                    return at, self._get(start, at - start, min(most, start + length - at))
            return max(offset, self.end), b""

    def kept(self) -> tuple[int, int]:
        """Lengths of the head and of the tail."""
        head = self.parts[0][1] if self.parts and self.parts[0][0] == 0 else 0
        tail = self.end - max(head, self._tail_start())
        return head, max(0, min(tail, self.limits.tail))

    def sync(self) -> None:
        """Brings everything to the disk."""
        for start, _ in self.parts:
            descriptor = os.open(self._path(start), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _append(self, offset: int, data: bytes) -> None:
        if offset > self.end:
            self._drop_tail()
        while data:
            start, length = self._room(offset)
            most = (self.limits.head if start == 0 else self.limits.segment) - length
            piece, data = data[:most], data[most:]
            self._put(start, length, piece)
            self._note(start, length + len(piece))
            offset += len(piece)
        self._prune()

    def _tail_start(self) -> int:
        return next((start for start, _ in self.parts if start), self.end)

    def _room(self, offset: int) -> tuple[int, int]:
        if self.parts:
            start, length = self.parts[-1]
            full = self.limits.head if start == 0 else self.limits.segment
            if start + length == offset and length < full:
                return start, length
        return offset, 0

    def _note(self, start: int, length: int) -> None:
        if self.parts and self.parts[-1][0] == start:
            self.parts[-1] = (start, length)
        else:
            self.parts.append((start, length))

    def _put(self, start: int, at: int, data: bytes) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path(start), _WRITE, 0o600)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], at + done)
        except OSError:
            os.ftruncate(descriptor, at)
            raise
        finally:
            os.close(descriptor)

    def _get(self, start: int, at: int, most: int) -> bytes:
        descriptor = os.open(self._path(start), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, most, at)
        finally:
            os.close(descriptor)

    def _prune(self) -> None:
        """Keeps at least the tail's bytes in as few files as can be."""
        tail = [part for part in self.parts if part[0]]
        while len(tail) > 1 and sum(length for _, length in tail[1:]) >= self.limits.tail:
            self._remove(tail.pop(0))

    def _drop_tail(self) -> None:
        for part in [part for part in self.parts if part[0]]:
            self._remove(part)

    def _remove(self, part: tuple[int, int]) -> None:
        self.parts.remove(part)
        self._path(part[0]).unlink(missing_ok=True)

    def _path(self, start: int) -> Path:
        return self.directory / f"{self.stream}.{start:016d}"
