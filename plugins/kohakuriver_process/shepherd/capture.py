"""One output stream kept as bytes at offsets: little in memory, more in files, at most a head and a tail.

Never stops taking: what cannot be stored is counted as dropped, so that a full disk stops no workload.
"""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH103, PTH108, PTH118, PTH120

import os

#: bytes that stay in memory before a file is made
SMALL = 32 * 1024


class Capture:
    """The bytes [0, head) and the last `tail` ones of a stream. Files are made when memory does not do."""

    def __init__(self, directory: str, name: str, *, head: int, tail: int) -> None:
        self.total = 0
        self._head = head
        self._tail = tail
        self._path = os.path.join(directory, name)
        self._memory: bytearray | None = bytearray()
        self._files: dict[str, int] = {}
        #: [begin, end) of what could not be written, in order; none lies in head and tail at once
        self._holes: list[tuple[int, int]] = []

    def add(self, data: bytes) -> None:
        """Takes the next bytes of the stream."""
        if self._memory is not None:
            if len(self._memory) + len(data) <= min(SMALL, self._head):
                self._memory += data
                self.total += len(data)
                return
            data = bytes(self._memory) + data
            self._memory = None
            self.total = 0
        self._store(data)

    @property
    def spilled(self) -> bool:
        return self._memory is None

    @property
    def dropped(self) -> int:
        """Bytes that went by and are not kept."""
        head = min(self._head, self.total)
        floor = self._floor()
        kept = ((0, head), (floor, self.total))
        holes = sum(max(0, min(end, last) - max(begin, first)) for begin, end in self._holes for first, last in kept)
        return max(0, floor - self._head if self.total > self._head else 0) + holes

    def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """Bytes at the first kept offset that is not below `offset`, and that offset; empty at the end."""
        offset = self._next_kept(max(0, offset))
        if offset >= self.total or most <= 0:
            return max(offset, self.total), b""
        if self._memory is not None:
            return offset, bytes(self._memory[offset : offset + most])
        end = min(self._end_of_run(offset), offset + most)
        data = self._pread(offset, end - offset)
        return (offset, data) if data else (self.total, b"")

    def close(self) -> None:
        """Closes the files and leaves them where they are."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def remove(self) -> None:
        """Closes and deletes the files."""
        if self._memory is None:
            for part in ("head", "tail"):
                try:
                    os.unlink(f"{self._path}.{part}")
                except FileNotFoundError:
                    continue
        self.close()

    def _floor(self) -> int:
        """The lowest offset of the tail."""
        return max(self._head, self.total - self._tail)

    def _next_kept(self, offset: int) -> int:
        if self._head <= offset < self._floor():
            offset = self._floor()
        for begin, end in self._holes:
            if begin <= offset < end:
                offset = end
                if self._head <= offset < self._floor():
                    offset = self._floor()
        return offset

    def _end_of_run(self, offset: int) -> int:
        """Up to where bytes from `offset` on lie next to each other, in one file."""
        if offset < self._head:
            end = min(self._head, self.total)
        else:
            end = min(self.total, offset + self._tail - (offset - self._head) % self._tail)
        return min([end, *(begin for begin, _ in self._holes if begin > offset)])

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            offset = self.total
            if offset < self._head:
                room = self._head - offset
                part, place = "head", offset
            else:
                place = (offset - self._head) % self._tail
                room = self._tail - place
                part = "tail"
            piece = view[:room]
            self._pwrite(part, piece, place, offset)
            self.total += len(piece)
            view = view[len(piece) :]

    def _pwrite(self, part: str, piece: memoryview, place: int, offset: int) -> None:
        written = 0
        try:
            fd = self._file(part)
            while written < len(piece):
                written += os.pwrite(fd, piece[written:], place + written)
        except OSError:
            self._hole(offset + written, offset + len(piece))

    def _hole(self, begin: int, end: int) -> None:
        self._holes = [hole for hole in self._holes if hole[1] <= self._head or hole[1] > self._floor()]
        if self._holes and self._holes[-1][1] == begin != self._head:
            begin = self._holes.pop()[0]
        self._holes.append((begin, end))

    def _pread(self, offset: int, length: int) -> bytes:
        part, place = ("head", offset) if offset < self._head else ("tail", (offset - self._head) % self._tail)
        try:
            return os.pread(self._file(part), length, place)
        except OSError:
            return b""

    def _file(self, part: str) -> int:
        fd = self._files.get(part)
        if fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            fd = os.open(f"{self._path}.{part}", flags, 0o600)
            self._files[part] = fd
        return fd
