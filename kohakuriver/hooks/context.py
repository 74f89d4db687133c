"""What the core hands to a plugin when it opens it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of a helper command."""

    code: int
    stdout: bytes
    stderr: bytes


class RunCommand(Protocol):
    """The one door to subprocesses: an argument vector, a limit in seconds, no shell. Raises TimeoutError."""

    def __call__(
        self, argv: Sequence[str], *, limit: float, input: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Awaitable[Done]: ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """A plugin's surroundings. `state` is its own directory, mode 0700, kept over restarts."""

    #: id of the cluster, part of the label on every body; "" before the first welcome
    cluster: str
    #: name of this node
    node: str
    #: name of this machine's boot; another one means that no process survived
    boot: str
    state: Path
    #: directories of the platform on this node: no workload may be given them, nor anything below or above them
    closed: tuple[Path, ...] = ()
    #: the plugin's own section of the configuration, as plain values
    config: Mapping[str, Any] = field(default_factory=dict)
    run: RunCommand
    #: threads for what blocks: `await ctx.in_thread(function, argument…)`
    in_thread: Callable[..., Awaitable[Any]]
