"""What can happen to a task, in the past tense. Values only; what they mean is `lifecycle.py`'s."""

from dataclasses import dataclass

from kohakuriver.domain.tasks import Exit, Status

#: what our own signal may have meant
SIGNALLED = frozenset({Status.KILLED, Status.STOPPED, Status.TIMED_OUT})


@dataclass(frozen=True, kw_only=True)
class Approved:
    """An operator let it through."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An operator refused it."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class NeverSatisfied:
    """What it waited for ended, and not as it had to."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Unobtainable:
    """What it was to run in could not be made, or is gone."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The scheduler chose a node; written together with the reservation."""

    node: int


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The runner journaled the attempt."""


@dataclass(frozen=True, kw_only=True)
class RefusedForNow:
    """The runner cannot take it at present; nothing was started."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class RefusedForGood:
    """The runner can never take it; nothing was started."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Started:
    """The backend started the attempt's process."""


@dataclass(frozen=True, kw_only=True)
class StartFailed:
    """Preparation or start failed; nothing runs."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class NeverStarted:
    """The attempt was ended before anything ran."""


@dataclass(frozen=True, kw_only=True)
class Exited:
    """The process ended. `signalled` names our signal if it was delivered before the end."""

    exit: Exit
    signalled: Status | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a signal that nobody sends."""
        if self.signalled is not None and self.signalled not in SIGNALLED:
            raise ValueError(f"no signal of ours means {self.signalled}")


@dataclass(frozen=True, kw_only=True)
class Paused:
    """The runner froze it."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The runner let it go on."""


@dataclass(frozen=True, kw_only=True)
class LimitReached:
    """The runner began to end it for its time limit."""


@dataclass(frozen=True, kw_only=True)
class PauseWanted:
    """Somebody wants it paused."""


@dataclass(frozen=True, kw_only=True)
class ResumeWanted:
    """Somebody wants it to go on."""


@dataclass(frozen=True, kw_only=True)
class KillWanted:
    """Somebody wants it ended. A grace that is given takes the place of the task's own, while it is ended too."""

    #: seconds between SIGTERM and SIGKILL
    grace: int | None = None


@dataclass(frozen=True, kw_only=True)
class StopWanted:
    """Somebody wants the VPS at rest, its disk kept."""


@dataclass(frozen=True, kw_only=True)
class RequeueWanted:
    """Somebody wants it ended here and begun anew."""


@dataclass(frozen=True, kw_only=True)
class StartWanted:
    """Somebody wants the stopped VPS to run again."""


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """The stopped VPS and its disk were given up."""


@dataclass(frozen=True, kw_only=True)
class DeclaredLost:
    """An operator, or an explicit `lost_after`, gave it up."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Requeued:
    """Its policy sends it back to the queue after fencing."""

    reason: str


Event = (
    Approved
    | Rejected
    | NeverSatisfied
    | Unobtainable
    | Placed
    | Accepted
    | RefusedForNow
    | RefusedForGood
    | Started
    | StartFailed
    | NeverStarted
    | Exited
    | Paused
    | Resumed
    | LimitReached
    | PauseWanted
    | ResumeWanted
    | KillWanted
    | StopWanted
    | RequeueWanted
    | StartWanted
    | Deleted
    | DeclaredLost
    | Requeued
)

#: events that a runner reports about one attempt
REPORTED = (
    Accepted,
    RefusedForNow,
    RefusedForGood,
    Started,
    StartFailed,
    NeverStarted,
    Exited,
    Paused,
    Resumed,
    LimitReached,
)

#: what people ask for, as it is said when it cannot be done
ASKED: dict[type, str] = {
    Approved: "approved",
    Rejected: "rejected",
    PauseWanted: "paused",
    ResumeWanted: "resumed",
    KillWanted: "killed",
    StopWanted: "stopped",
    RequeueWanted: "sent back to the queue",
    StartWanted: "started",
    Deleted: "deleted",
    DeclaredLost: "declared lost",
    Requeued: "sent back to the queue",
}
