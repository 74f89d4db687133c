"""What a workload backend is. `kohakuriver/testing/contracts/backend.py` is the same page as a test suite."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import ClassVar, Protocol

from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Chunk, Exit, Features, Handle, Image, Job, Offsets, Probe, Seen, Stats


class Progress(Protocol):
    """Told how far a long step is; cheap, may be called often, may drop calls."""

    def __call__(self, note: str, done: int | None = None, total: int | None = None) -> None: ...


class Backend(ABC):
    """Makes, runs, watches and removes bodies. Every method may be called again after a crash of its caller.

    Nothing here blocks the event loop. An operation on something that is gone is no error unless it says so.
    """

    name: ClassVar[str]
    features: ClassVar[Features]
    #: a msgspec struct; its JSON Schema is announced to the host
    Options: ClassVar[type]

    @abstractmethod
    async def open(self, ctx: Context) -> None:
        """Called once before anything else. Raises PluginError only when nothing at all can work."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections and threads. Touches no workload."""

    @abstractmethod
    async def probe(self) -> Probe:
        """Problems in words, capacity, devices. Called now and then; never raises for a missing runtime."""

    @abstractmethod
    async def check(self, job: Job) -> Sequence[str]:
        """Why this job can never run here, before anything exists; empty when it can."""

    @abstractmethod
    async def prepare(self, image: Image, progress: Progress) -> None:
        """Makes the image available. Idempotent by digest; cancelling it leaves nothing half-made in use."""

    @abstractmethod
    async def create(self, job: Job) -> Handle:
        """Makes the body and runs nothing. Idempotent by instance; a foreign body under our name is an error."""

    @abstractmethod
    async def start(self, handle: Handle, job: Job) -> str:
        """Starts the attempt and returns the run. Idempotent by attempt: a second call finds the first's run,
        also when that run has ended, and never starts a second one. Raises PluginError when it cannot be known.
        """

    @abstractmethod
    async def see(self, handle: Handle) -> Seen:
        """What stands there now. "gone" is an answer, not an error."""

    @abstractmethod
    async def wait(self, handle: Handle, run: str) -> Exit:
        """Returns when the run has ended, at once if it has. Cancelling it touches nothing."""

    @abstractmethod
    async def stop(self, handle: Handle, run: str, grace: float) -> None:
        """Asks the run to end, and after `grace` seconds makes it. Idempotent; every process is dead on return.
        Cancelling it stops the waiting, not the stopping that was done so far.
        """

    @abstractmethod
    async def remove(self, handle: Handle) -> None:
        """Removes the body, running or not. Idempotent; leaves nothing."""

    @abstractmethod
    async def found(self) -> Sequence[tuple[str, Handle]]:
        """All bodies of ours here, as (instance, handle), exited ones too."""

    @abstractmethod
    def output(self, handle: Handle, run: str, at: Offsets) -> AsyncIterator[Chunk]:
        """The run's output from these offsets on, following it until it ends. Ends by itself after the last byte."""

    @abstractmethod
    async def stats(self, handles: Sequence[Handle]) -> Mapping[str, Stats]:
        """What the bodies used, by instance; those that are gone are left out."""
