"""Frames: what goes over a raw stream that carries more than plain bytes, such as a terminal or a long operation.

    1 byte   kind
    4 bytes  length of the payload, big-endian
    payload

Both directions use them. Knows no socket: bytes come in, frames go out.
"""

import enum
import struct
from collections.abc import Iterator

from kohakuriver.errors import Malformed

HEAD = struct.Struct(">BI")
WINDOW = struct.Struct(">HH")
MOST_PAYLOAD = 256 * 1024
#: of a RESULT alone, such as a long list of files
MOST_RESULT = 8 * 1024**2


class Kind(enum.IntEnum):
    """What a payload is."""

    #: bytes: typed, printed, uploaded or downloaded
    DATA = 0
    #: no more DATA comes from this side; empty
    END = 1
    #: columns and rows of the window, two bytes each
    WINDOW = 2
    #: JSON: how far it is (wire.environments.OperationProgress)
    PROGRESS = 3
    #: JSON: it went well; the last frame
    RESULT = 4
    #: JSON: it did not (wire.environments.Failure); the last frame
    ERROR = 5


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame. Raises ValueError for a payload that is too long."""
    if len(payload) > most(kind):
        raise ValueError(f"a frame of {len(payload)} bytes; at most {most(kind)}")
    return HEAD.pack(kind, len(payload)) + payload


def most(kind: int) -> int:
    """Bytes of a payload of that kind, at most."""
    return MOST_RESULT if kind == Kind.RESULT else MOST_PAYLOAD


def frames(kind: Kind, data: bytes) -> Iterator[bytes]:
    """As many frames as these bytes need; none for none."""
    for at in range(0, len(data), MOST_PAYLOAD):
        yield frame(kind, data[at : at + MOST_PAYLOAD])


def window(columns: int, rows: int) -> bytes:
    """A frame that tells the size of the window; what is beyond 65,535 becomes that."""
    return frame(Kind.WINDOW, WINDOW.pack(min(max(columns, 1), 0xFFFF), min(max(rows, 1), 0xFFFF)))


def window_of(payload: bytes) -> tuple[int, int]:
    """Columns and rows. Raises Malformed."""
    if len(payload) != WINDOW.size:
        raise Malformed(f"the size of a window has {len(payload)} bytes instead of {WINDOW.size}")
    columns, rows = WINDOW.unpack(payload)
    return max(1, columns), max(1, rows)


class Reader:
    """Frames out of bytes that come in pieces. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The frames that are whole now. Raises Malformed for an unknown kind or a payload that is too long."""
        self._kept += data
        while len(self._kept) >= HEAD.size:
            number, length = HEAD.unpack_from(self._kept)
            if length > most(number):
                raise Malformed(f"a frame of {length} bytes; at most {most(number)}")
            try:
                kind = Kind(number)
            except ValueError:
                raise Malformed(f"a frame of the unknown kind {number}") from None
            if len(self._kept) < HEAD.size + length:
                return
            payload = bytes(self._kept[HEAD.size : HEAD.size + length])
            del self._kept[: HEAD.size + length]
            yield kind, payload

    @property
    def midway(self) -> bool:
        """Whether an end now would cut a frame off."""
        return bool(self._kept)
