"""What only some backends can do. The core asks with isinstance and never for a plugin's name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from kohakuriver.hooks.environments import Environments
from kohakuriver.hooks.packages import Packages
from kohakuriver.hooks.values import Handle


class Stream(Protocol):
    """Bytes both ways."""

    async def read(self, most: int) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    async def close(self) -> None: ...


class CanPause(ABC):
    """Can freeze every process of a run and let all go on. Both are idempotent; nothing runs on return of pause."""

    @abstractmethod
    async def pause(self, handle: Handle, run: str) -> None: ...

    @abstractmethod
    async def resume(self, handle: Handle, run: str) -> None: ...


class CanExec(ABC):
    """Can run a further command inside a body."""

    @abstractmethod
    async def exec(
        self, handle: Handle, argv: Sequence[str], *, tty: bool, user: str | None, env: Mapping[str, str]
    ) -> Stream: ...


class CanDial(ABC):
    """Can open a socket inside a run, services bound to its localhost included."""

    @abstractmethod
    async def dial(self, handle: Handle, run: str, protocol: Literal["tcp", "udp"], port: int) -> Stream: ...


class CanClaim(ABC):
    """Can say which of the node's processes belong to its bodies, so that people see who uses a card."""

    @abstractmethod
    async def claim(self, handles: Sequence[Handle], pids: Sequence[int]) -> Mapping[int, str]:
        """The instance that each of these processes (ids as the node counts them) is a part of; those of none of these
        bodies, and those that ended meanwhile, are left out. Called with each heartbeat while processes are on cards.
        """


class CanPackage(ABC):
    """Can take images apart and put them together, so that environments travel to where they are needed."""

    @property
    @abstractmethod
    def packages(self) -> Packages: ...


class CanEnvironments(ABC):
    """Can keep containers in which people set up environments."""

    @property
    @abstractmethod
    def environments(self) -> Environments: ...


CAPABILITIES: tuple[type, ...] = (CanPause, CanExec, CanDial, CanClaim, CanPackage, CanEnvironments)


def capabilities(backend: object) -> tuple[str, ...]:
    """The names of the capability classes that a backend implements."""
    return tuple(kind.__name__ for kind in CAPABILITIES if isinstance(backend, kind))
