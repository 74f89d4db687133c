"""How runner and shepherd speak: two lengths, a JSON object, then raw bytes. Knows no meaning of the messages."""

import json
import struct
from typing import Any

#: rises when an older side could misunderstand a newer one; a shepherd outlives upgrades of the runner
PROTOCOL = 1
HEAD = struct.Struct(">II")
MOST_JSON = 4 * 1024 * 1024
MOST_BLOB = 4 * 1024 * 1024

Message = dict[str, Any]


class BadFrame(Exception):
    """the other side does not speak this protocol"""


def pack(message: Message, blob: bytes = b"") -> bytes:
    """One message as bytes."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEAD.pack(len(body), len(blob)) + body + blob


class Unpacker:
    """Collects bytes and gives whole messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """The messages that are complete now. Raises BadFrame; the connection is of no use afterwards."""
        self._data += data
        found = []
        while len(self._data) >= HEAD.size:
            length, blob = HEAD.unpack_from(self._data)
            if length > MOST_JSON or blob > MOST_BLOB:
                raise BadFrame(f"a frame of {length} + {blob} bytes")
            end = HEAD.size + length + blob
            if len(self._data) < end:
                break
            found.append(self._take(length, end))
        return found

    def _take(self, length: int, end: int) -> tuple[Message, bytes]:
        try:
            message = json.loads(self._data[HEAD.size : HEAD.size + length])
        except ValueError as error:
            raise BadFrame(f"not JSON: {error}") from None
        if not isinstance(message, dict):
            raise BadFrame("not a JSON object")
        blob = bytes(self._data[HEAD.size + length : end])
        del self._data[:end]
        return message, blob
