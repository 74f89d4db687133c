"""One workload from its creation to its removal: its process, its output, who waits for it."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH118

import errno
import fcntl
import os
import resource
import time
from collections.abc import Callable

from kohakuriver_process.shepherd import groups
from kohakuriver_process.shepherd.capture import Capture
from kohakuriver_process.shepherd.frames import Message
from kohakuriver_process.shepherd.loop import IN, Loop, Timer

STREAMS = ("stdout", "stderr")
ONE_READ = 256 * 1024
#: asked of the kernel for a pipe whose stream turned out to be large (fcntl F_SETPIPE_SZ)
LARGE_PIPE = 512 * 1024
#: more than a pipe holds; a stranger that was given the pipe and writes on cannot keep a workload from its end
LAST_READS = 64

Reply = Callable[[Message, bytes], None]


class Body:
    """State and output of one workload. `phase`: created, running, ending (its main process is over), exited."""

    def __init__(self, instance: str, directory: str) -> None:
        self.instance = instance
        self.directory = directory
        self.attempt: str | None = None
        #: the attempt that it was made for, by which its processes are found even if nothing more could be written down
        self.meant: str | None = None
        self.phase = "created"
        self.pid = 0
        self.start = 0
        self.paused = False
        self.status: int | None = None
        self.finished: float | None = None
        self.oom: bool | None = None
        #: as its control groups counted, else of its processes that were waited for, the peak of the largest (wait4(2))
        self.usage: dict[str, float] = {"cpu_seconds": 0.0, "memory_peak": 0}
        self.groups: list[str] = []
        self.cage: str | None = None
        self.memory: str | None = None
        self.captures: dict[str, Capture] = {}
        self.grace: Timer | None = None
        #: told once the workload is over
        self.waiters: list[Reply] = []
        #: told of the next output, or of the end
        self.readers: list[Callable[[], bool]] = []
        self._pipes: dict[str, int] = {}

    @property
    def run(self) -> str | None:
        """Names this very start: process id and its start in clock ticks since boot."""
        return f"{self.pid}-{self.start}" if self.pid else None

    @property
    def going(self) -> bool:
        return self.phase in ("running", "ending")

    def story(self) -> Message:
        """What there is to know, as the answer to `see` and `wait`."""
        told: Message = {"instance": self.instance, "attempt": self.attempt, "run": self.run, "phase": self.phase}
        if self.phase == "running" and self.paused:
            told["phase"] = "paused"
        if self.phase == "ending":
            told["phase"] = "running"
        if self.phase == "exited":
            told |= {"status": self.status, "finished": self.finished, "oom": self.oom, "usage": self.usage}
            told["dropped"] = {name: capture.dropped for name, capture in self.captures.items()}
        return told

    def use(self, ended: resource.struct_rusage) -> None:
        """Adds what one of its processes used, and what that one had waited for."""
        self.usage["cpu_seconds"] += ended.ru_utime + ended.ru_stime
        self.usage["memory_peak"] = max(self.usage["memory_peak"], ended.ru_maxrss * 1024)

    def listen(self, loop: Loop, pipes: dict[str, int], *, head: int, tail: int) -> None:
        """Begins to take the output of these pipe ends, which belong to the body from here on."""
        for name, fd in pipes.items():
            os.set_blocking(fd, False)
            self.captures[name] = Capture(os.path.join(self.directory, "output"), name, head=head, tail=tail)
            self._pipes[name] = fd
            loop.watch(fd, IN, lambda _events, name=name: self._more(loop, name))  # type: ignore[misc]

    def read(self, offsets: dict[str, int], most: int) -> tuple[list[Message], bytes]:
        """Kept bytes from these offsets on, as descriptions and one blob."""
        parts: list[Message] = []
        blob = b""
        for name in STREAMS:
            capture = self.captures.get(name)
            if capture is None:
                continue
            offset, data = capture.read(offsets[name], most - len(blob))
            if data:
                parts.append({"stream": name, "offset": offset, "length": len(data)})
                blob += data
        return parts, blob

    def totals(self) -> dict[str, int]:
        """Bytes of each stream so far, kept or not."""
        return {name: capture.total for name, capture in self.captures.items()}

    def end(self, loop: Loop) -> None:
        """All processes are gone: takes what is left in the pipes, frees the groups, tells those who wait."""
        for name in list(self._pipes):
            for _ in range(LAST_READS):
                if not self._take(loop, name):
                    break
            self._shut(loop, name)
        self.usage |= groups.usage(self.groups)
        if self.memory is not None:
            self.oom = groups.out_of_memory(self.memory)
        self.groups = [directory for directory in self.groups if not groups.remove(directory)]
        if self.grace is not None:
            self.grace.cancel()
        self.phase = "exited"
        self.finished = time.time()
        self.wake_readers()
        waiters, self.waiters = self.waiters, []
        for tell in waiters:
            tell(self.story(), b"")

    def wake_readers(self) -> None:
        self.readers = [tell for tell in self.readers if not tell()]

    def discard(self) -> None:
        """Removes every trace of the output and of the groups."""
        for capture in self.captures.values():
            capture.remove()
        for directory in self.groups:
            groups.remove(directory)

    def _more(self, loop: Loop, name: str) -> None:
        if self._take(loop, name):
            self.wake_readers()

    def _take(self, loop: Loop, name: str) -> bool:
        """Takes what one read gives; False when there is nothing now or never again."""
        fd = self._pipes.get(name)
        if fd is None:
            return False
        try:
            data = os.read(fd, ONE_READ)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._shut(loop, name)
            return False
        if not data:
            self._shut(loop, name)
            return False
        capture = self.captures[name]
        small = not capture.spilled
        capture.add(data)
        if small and capture.spilled:
            _enlarge(fd)
        return True

    def _shut(self, loop: Loop, name: str) -> None:
        fd = self._pipes.pop(name, None)
        if fd is not None:
            loop.unwatch(fd)
            os.close(fd)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, LARGE_PIPE)
    except OSError:
        return  # beyond pipe-user-pages-soft; the usual size does
