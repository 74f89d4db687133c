"""Tasks as values: what was asked for, and where it stands. Knows no clock and no store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from kohakuriver.domain.arrays import Element, element_name
from kohakuriver.domain.attempts import attempt_id
from kohakuriver.domain.dependencies import After
from kohakuriver.domain.environments import Pull
from kohakuriver.domain.labels import Constraint
from kohakuriver.domain.resources import Request
from kohakuriver.domain.retries import Retry
from kohakuriver.domain.targets import Target


class Kind(StrEnum):
    """What a task is for."""

    COMMAND = "command"
    """runs once; output and exit code are kept"""
    VPS = "vps"
    """a persistent machine that is stopped and started again"""


class Status(StrEnum):
    """Where a task stands; `lifecycle.TRANSITIONS` says how it gets there."""

    PENDING_APPROVAL = "pending_approval"
    """waits for an operator's word"""
    PENDING = "pending"
    """waits for a place"""
    ASSIGNED = "assigned"
    """has a node and a reservation; the runner has not answered yet"""
    STARTING = "starting"
    """the runner prepares it"""
    RUNNING = "running"
    """its process runs"""
    PAUSED = "paused"
    """frozen; keeps what it holds"""
    STOPPING = "stopping"
    """is being ended"""
    STOPPED = "stopped"
    """a VPS at rest; can be started again"""
    COMPLETED = "completed"
    """ended with exit code 0"""
    FAILED = "failed"
    """ended with another exit code, or could not start"""
    KILLED = "killed"
    """ended by somebody's wish"""
    KILLED_OOM = "killed_oom"
    """ended by the kernel for want of memory"""
    TIMED_OUT = "timed_out"
    """ended by its time limit"""
    REJECTED = "rejected"
    """an operator said no"""
    LOST = "lost"
    """given up; a true report of the same attempt may still correct it"""
    REMOVED = "removed"
    """a deleted VPS"""


class Wanted(StrEnum):
    """What its people want of a task."""

    RUN = "run"
    PAUSED = "paused"
    STOPPED = "stopped"
    KILLED = "killed"
    AGAIN = "again"
    """its present attempt ended, and then another"""


#: statuses that never change again, but for `lost` (contracts.md §1, rule 8)
FINAL = frozenset(
    {
        Status.COMPLETED,
        Status.FAILED,
        Status.KILLED,
        Status.KILLED_OOM,
        Status.TIMED_OUT,
        Status.REJECTED,
        Status.LOST,
        Status.REMOVED,
    }
)
#: statuses in which an attempt holds a reservation on a node
HOLDING = frozenset({Status.ASSIGNED, Status.STARTING, Status.RUNNING, Status.PAUSED, Status.STOPPING})
#: statuses in which a task still counts against its owner's limits
OPEN = HOLDING | {Status.PENDING_APPROVAL, Status.PENDING, Status.STOPPED}

DEFAULT_GRACE = 5


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What was asked for. Never changes after submit."""

    kind: Kind = Kind.COMMAND
    #: the command and its arguments; no shell looks at them
    argv: tuple[str, ...] = ()
    #: text of a script that is run instead of argv; argv are then its arguments
    script: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    #: environment values that are never shown again
    secrets: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    request: Request = field(default_factory=Request)
    target: Target | None = None
    #: what the labels of its node must be; sorted, each once
    constraints: tuple[Constraint, ...] = ()
    #: None: the node's default backend
    backend: str | None = None
    #: the backend's own options, checked against the schema that the node announced
    options: Mapping[str, object] = field(default_factory=dict)
    #: a version of an environment as NAME:NUMBER, or an image by reference; the process backend takes neither
    container: str | None = None
    image: str | None = None
    #: when the image is fetched
    pull: Pull = "missing"
    #: seconds in `running`, time spent paused not counted; None: no limit
    time_limit: int | None = None
    #: seconds between SIGTERM and SIGKILL
    grace: int = DEFAULT_GRACE
    priority: int = 0
    #: its place in an array; None: it is no part of one
    array: Element | None = None
    #: what must have ended before it may start
    after: tuple[After, ...] = ()
    #: whether and when it is tried again by itself
    retry: Retry | None = None
    #: goes back to the queue when its node is gone
    requeue: bool = False
    #: seconds without a word from the host after which its runner ends it; None: silence ends nothing
    lease: int | None = None


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How an attempt ended. The code is the runtime's, never invented; None when the runtime could not say."""

    code: int | None = None
    signal: int | None = None
    oom: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task and where it stands. `version` rises with every change and guards the write."""

    id: int
    batch: int
    owner: int
    spec: TaskSpec
    name: str | None = None
    status: Status
    wanted: Wanted = Wanted.RUN
    #: revision of `wanted`; a runner ignores a lower one
    wish: int = 0
    version: int = 0
    node: int | None = None
    #: number of the current attempt, 0 before the first; rises only with `assigned`
    generation: int = 0
    submitted: datetime
    started: datetime | None = None
    finished: datetime | None = None
    #: it must not start before; None: at once
    ready: datetime | None = None
    #: how often it was tried again after an end that a retry is for
    retried: int = 0
    exit: Exit | None = None

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def attempt(self) -> str:
        """The current attempt as runners and people name it: `<task>.<generation>`."""
        return attempt_id(self.id, self.generation)

    @property
    def instance(self) -> str:
        """The durable body: a command task has one per attempt, a VPS keeps one (contracts.md §1)."""
        return str(self.id) if self.spec.kind is Kind.VPS else self.attempt


def expand(spec: TaskSpec, targets: Sequence[Target], copies: int = 1, array: Sequence[Element] = ()) -> list[TaskSpec]:
    """The tasks that one submission means: one per target, or one without a target, times `copies`, and for each of
    these one per element of the array.
    """
    places: Sequence[Target | None] = targets or [spec.target]
    parts: Sequence[Element | None] = array or [None]
    return [replace(spec, target=place, array=part) for place in places for _ in range(copies) for part in parts]


def name_of(name: str | None, spec: TaskSpec) -> str | None:
    """What one task of a submission of that name is called."""
    return name if name is None or spec.array is None else element_name(name, spec.array)
