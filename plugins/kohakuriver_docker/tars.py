"""Tar streams, read member by member and as strictly as archives of images allow, and written. Knows no image.

The reader keeps only headers in memory, and none beyond a limit: tarfile would take in all that a header promises.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from kohakuriver.errors import Invalid, shorten

BLOCK = 512
PIECE = 1 << 20
#: bytes of a long name or an extended header
MOST_HEADER = 64 << 10
MOST_MEMBERS = 4096
END = bytes(2 * BLOCK)
#: what a member is, for those that no image is made of (POSIX.1-2017, ustar; GNU tar's manual, "Standard")
REFUSED = {
    b"1": "a hard link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"g": "a global extended header",
}
FILE, DIRECTORY, LINK = (b"0", b"\0"), b"5", b"2"
LONG_NAME, LONG_TARGET, EXTENDED = b"L", b"K", b"x"


class Source:
    """Bytes that are read once and forwards. `read` gives at most so many, and none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""
        #: bytes that were given out
        self.at = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer at the end; they stay."""
        while len(self._ahead) < size and (piece := self._read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead[:size]

    def read(self, size: int = PIECE) -> bytes:
        if self._ahead:
            found, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            found = self._read(size)
        self.at += len(found)
        return found

    def exactly(self, size: int) -> bytes:
        """Raises Invalid at an earlier end."""
        found = b""
        while len(found) < size:
            piece = self.read(size - len(found))
            if not piece:
                raise Invalid(f"it is cut off after {self.at} bytes")
            found += piece
        return found


class Budget:
    """Bytes that an archive may have, promised and unpacked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = most

    def take(self, size: int, member: str) -> None:
        """Raises Invalid when it is used up."""
        self._left -= size
        if self._left < 0:
            raise Invalid(
                f"member {shorten(member)!r}: with it the archive has more than {self.most} bytes",
                field=shorten(member),
                value=size,
                limit=self.most,
            )


@dataclass(frozen=True, kw_only=True)
class Member:
    """What a header says."""

    name: str
    kind: Literal["file", "directory", "link"]
    size: int = 0
    target: str = ""


def members(source: Source, budget: Budget) -> Iterator[tuple[Member, Source]]:
    """Each member with its content, to be read before the next one is asked for. Raises Invalid."""
    for _ in range(MOST_MEMBERS):
        member = _next(source)
        if member is None:
            return
        budget.take(member.size, member.name)
        content = _Content(source, member.size)
        yield member, Source(content.read)
        content.skip()
        source.exactly(-member.size % BLOCK)
    raise Invalid(f"it has more than {MOST_MEMBERS} members", limit=MOST_MEMBERS)


def header(name: str, size: int) -> bytes:
    """Of a regular file."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What follows a content of this size."""
    return bytes(-size % BLOCK)


class _Content:
    """The next so many bytes of a source."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int) -> bytes:
        if not self._left:
            return b""
        found = self._source.read(min(size, self._left))
        if not found:
            raise Invalid(f"it is cut off after {self._source.at} bytes")
        self._left -= len(found)
        return found

    def skip(self) -> None:
        while self.read(PIECE):
            pass


def _next(source: Source) -> Member | None:
    """The next member; None at the end. Long names and extended headers stand before what they are of."""
    said: dict[str, str] = {}
    for _ in range(4):
        block = _block(source)
        if block is None:
            if said:
                raise Invalid("its last header is of no member")
            return None
        kind = block[156:157]
        if kind not in (LONG_NAME, LONG_TARGET, EXTENDED):
            return _member(block, kind, said)
        size = _number(block[124:136])
        if size > MOST_HEADER:
            raise Invalid(f"a header at byte {source.at} has {size} bytes", value=size, limit=MOST_HEADER)
        data = source.exactly(size)
        source.exactly(-size % BLOCK)
        if kind == EXTENDED:
            said |= _extended(data)
        else:
            said["path" if kind == LONG_NAME else "linkpath"] = _text(data)
    raise Invalid(f"too many headers before byte {source.at}")


def _block(source: Source) -> bytes | None:
    begin = source.at
    if not source.peek(1):
        raise Invalid("it is no tar: it is empty" if not begin else f"it is cut off after {begin} bytes")
    block = source.exactly(BLOCK)
    if not any(block):
        return None
    sums = block[148:156].strip(b" \0")
    if not sums.isdigit() or sum(block) - sum(block[148:156]) + 8 * ord(" ") != _number(sums):
        raise Invalid(f"it is damaged at byte {begin}" if begin else "it is no tar")
    return block


def _member(block: bytes, kind: bytes, said: dict[str, str]) -> Member:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    name = said.get("path", name)
    if kind in REFUSED:
        raise Invalid(f"member {shorten(name)!r} is {REFUSED[kind]}", field=shorten(name), value=REFUSED[kind])
    if kind == LINK:
        return Member(name=name, kind="link", target=said.get("linkpath") or _text(block[157:257]))
    if kind == DIRECTORY:
        return Member(name=name, kind="directory")
    if kind not in FILE:
        raise Invalid(f"member {shorten(name)!r} is of an unknown kind", field=shorten(name), value=kind)
    size = said.get("size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise Invalid(f"member {shorten(name)!r} has a size of {shorten(size)!r}", field=shorten(name), value=size)
    return Member(name=name, kind="file", size=_number(block[124:136]) if size is None else int(size))


def _number(field: bytes) -> int:
    """Octal digits, or base 256 after a first byte of 0x80 (GNU tar's manual, "Extensions")."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if not all(digit in b"01234567" for digit in text):
        raise Invalid(f"a number of a header is {shorten(field)}")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise Invalid(f"member {shorten(field)} has a name that is no UTF-8") from None


def _extended(data: bytes) -> dict[str, str]:
    """What counts of an extended header: records of "length key=value" with a newline (POSIX.1-2017, pax)."""
    found: dict[str, str] = {}
    while data:
        length, _, _ = data[:21].partition(b" ")
        size = int(length) if length.isdigit() else 0
        record, data = data[len(length) + 1 : size], data[size:]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise Invalid("an extended header is damaged")
        if key.startswith(b"GNU.sparse"):
            raise Invalid("a member is a sparse file")
        if key in (b"path", b"linkpath", b"size"):
            if b"\0" in value:
                raise Invalid(f"member {shorten(value)} has a NUL in its name")
            found[key.decode()] = _text(value[:-1])
    return found
