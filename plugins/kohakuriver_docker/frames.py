"""The Engine's multiplexed output: frames of 8 bytes of head and a payload (Engine API, `ContainerAttach`)."""

from collections.abc import Iterator
from typing import Literal

Name = Literal["stdout", "stderr"]
NAMES: dict[int, Name] = {1: "stdout", 2: "stderr"}
HEAD = 8
#: what one stored message of the `local` log driver takes besides its bytes, at most
STORED_HEAD = 40


class Frames:
    """Takes bytes as they come and gives each stream's, neighbours of one stream joined."""

    def __init__(self) -> None:
        self._rest = b""
        #: an upper bound of what the frames so far take in the files of the log driver
        self.stored = 0

    def feed(self, data: bytes) -> Iterator[tuple[Name, bytes]]:
        """The payloads that are complete with these bytes."""
        data = self._rest + data if self._rest else data
        at, end, name = 0, len(data), None
        parts: list[bytes] = []
        while end - at >= HEAD:
            size = int.from_bytes(data[at + 4 : at + HEAD], "big")
            if end - at - HEAD < size:
                break
            kind = NAMES.get(data[at])
            if kind != name and parts and name is not None:
                yield name, b"".join(parts)
                parts = []
            name = kind
            self.stored += size + STORED_HEAD
            parts.append(data[at + HEAD : at + HEAD + size])
            at += HEAD + size
        self._rest = data[at:]
        if parts and name is not None:
            yield name, b"".join(parts)
