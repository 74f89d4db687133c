"""What the backend suite needs from whoever binds it to a backend."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Handle, Job


class Programs:
    """Commands with known behaviour, here for anything that has a POSIX shell and seq. A fake brings its own."""

    def say(self, stdout: bytes = b"", stderr: bytes = b"", code: int = 0) -> tuple[str, ...]:
        """Writes these bytes and exits."""
        return ("sh", "-c", f"printf '{_octal(stdout)}'; printf '{_octal(stderr)}' >&2; exit {code}")

    def sleep(self) -> tuple[str, ...]:
        """Says `up`, then runs until it is ended, and ends at SIGTERM."""
        return ("sh", "-c", "echo up; exec sleep 1000")

    def stubborn(self) -> tuple[str, ...]:
        """Has a child, says `up`, and neither of them minds SIGTERM."""
        return ("sh", "-c", "trap '' TERM; (while :; do sleep 0.1; done) & echo up; while :; do sleep 0.1; done")

    def leaves_behind(self, code: int) -> tuple[str, ...]:
        """Exits while a child of its own runs on."""
        return ("sh", "-c", f"sleep 1000 & exit {code}")

    def die(self, signal: int) -> tuple[str, ...]:
        """Ends itself by this signal."""
        return ("sh", "-c", f"kill -{signal} $$")

    def count(self, last: int) -> tuple[str, ...]:
        """Writes the numbers from 1 to `last`, one a line, to stdout."""
        return ("seq", "1", str(last))

    def missing(self) -> tuple[str, ...]:
        """Names a program that does not exist."""
        return ("/no/such/program",)

    def variable(self, name: str) -> tuple[str, ...]:
        """Writes the value of an environment variable."""
        return ("sh", "-c", f'printf %s "${name}"')


class BackendKit(ABC):
    """One backend on one machine. `open` may be used again and again: each time is a restart of the runner."""

    programs = Programs()
    #: signals that stop() uses, as exit codes of a program that ends by them
    terminated = 143
    killed = 137
    #: the name of an image that is here and nobody's to remove, for a backend that can take images apart
    packaged = ""

    def __init__(self, directory: Path) -> None:
        """`directory` is the test's own and empty."""
        self.directory = directory
        self._count = 0

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Backend]:
        """A backend that is open; on leaving it is closed and its workloads go on."""

    @abstractmethod
    async def processes(self, job: Job) -> int:
        """How many processes of this job live, as the machine sees it, not the backend."""

    @abstractmethod
    async def occupy(self, job: Job) -> None:
        """Makes a body under the name of this job that is not the job's: another owner's."""

    def impossible(self) -> Mapping[str, Any]:
        """Fields of Job of which check() must refuse each; none where everything can be done."""
        return {}

    def job(self, argv: tuple[str, ...], **fields: Any) -> Job:
        """A new job with an instance and a directory of its own."""
        self._count += 1
        instance = str(fields.pop("instance", f"{1000 + self._count}.1"))
        directory = self.directory / "jobs" / instance
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        return Job(
            instance=instance,
            attempt=str(fields.pop("attempt", instance)),
            owner="ada",
            argv=argv,
            directory=directory,
            **fields,
        )

    def leftovers(self, job: Job, handle: Handle) -> list[str]:
        """What remove() left, as words."""
        return [str(path) for path in job.directory.rglob("*")] + self.traces(handle)

    def traces(self, handle: Handle) -> list[str]:
        """Anything of the body outside the job's directory."""
        return []


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)
