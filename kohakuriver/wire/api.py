"""Bodies of the HTTP API, `/api/v1`. Requests refuse unknown fields; ids are strings, times RFC 3339 in UTC,
sizes bytes, durations seconds. A list is `{"items": [...], "next": cursor or null}`.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from kohakuriver.domain.retries import LONGEST_DELAY, MOST_RETRIES
from kohakuriver.wire.many import AfterView, ArrayView, RetryView
from kohakuriver.wire.use import CardSampleView, CordonView

Item = TypeVar("Item")

MOST_BODY = 1024 * 1024
MOST_ARGUMENTS = 4096
MOST_TARGETS = 256
MOST_COPIES = 5000
MOST_AFTER = 64
MOST_CORES = 65_536
MOST_MEMORY = 2**60
LONGEST_TIME_LIMIT = 10 * 365 * 86_400

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Word = Annotated[str, Meta(min_length=1, max_length=4096)]
Reference = Annotated[str, Meta(min_length=1, max_length=160)]
Text = Annotated[str, Meta(max_length=131_072)]
Key = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A body that a client sends."""


class View(msgspec.Struct, kw_only=True):
    """A body that the host answers."""


class Page(View, Generic[Item], kw_only=True):
    """A part of a list; `next` is the cursor of the next part."""

    items: list[Item]
    next: str | None = None


class Problem(View, kw_only=True, omit_defaults=True):
    """An error, RFC 9457. `code` is stable; `field`, `value` and `limit` name what was wrong with the input."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    value: str | None = None
    limit: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] = []


class Devices(Request, kw_only=True):
    """Cards by count, with an optional word of the model's name and least memory in bytes."""

    count: Annotated[int, Meta(ge=1, le=64)] = 1
    model: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    memory: Annotated[int, Meta(ge=1, le=MOST_MEMORY)] | None = None


class SubmitTask(Request, kw_only=True):
    """Tasks to run: one per target, or one without a target, times `copies`. All or nothing."""

    command: Annotated[list[Text], Meta(max_length=MOST_ARGUMENTS)] = []
    #: text of a script; `command` are then its arguments
    script: Text | None = None
    name: Name | None = None
    env: dict[Key, Text] = {}
    #: environment values that are never shown again
    secrets: dict[Key, Text] = {}
    workdir: Word | None = None
    targets: Annotated[list[Word], Meta(max_length=MOST_TARGETS)] = []
    #: what the labels of its node must be: `key=value`, `key!=value`, or `key` for any value
    constraints: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=32)] = []
    copies: Annotated[int, Meta(ge=1, le=MOST_COPIES)] = 1
    #: one task for each index, as `0-15`, `1,3,8-12:2`; `%4`: at most four of them under way at once
    array: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    #: words such as `span:{0..3}` and `span:[a, b]` stand for several values: one task for each combination
    span: bool = False
    #: how many of an array, or of the combinations, may be under way at once
    at_once: Annotated[int, Meta(ge=1, le=MOST_COPIES)] | None = None
    #: tasks that must have ended well before: ids, ends of ids, names, or `batch:` and one of these
    after: Annotated[list[Reference], Meta(max_length=MOST_AFTER)] = []
    #: tasks that must have ended before, however
    after_any: Annotated[list[Reference], Meta(max_length=MOST_AFTER)] = []
    #: how often it is tried again
    retries: Annotated[int, Meta(ge=0, le=MOST_RETRIES)] = 0
    #: after which ends: failed, oom, timeout, lost-node; none: failed
    retry_on: Annotated[list[Name], Meta(max_length=4)] = []
    #: seconds until the next try
    retry_delay: Annotated[int, Meta(ge=0, le=LONGEST_DELAY)] = 0
    #: it begins anew elsewhere when its node is gone; a node without contact then ends it by itself
    requeue: bool = False
    cores: Annotated[int, Meta(ge=0, le=MOST_CORES)] = 1
    pin: bool = False
    memory: Annotated[int, Meta(ge=1, le=MOST_MEMORY)] | None = None
    devices: Devices | None = None
    backend: Name | None = None
    options: dict[Name, Any] = {}
    #: an environment, or a version of it as NAME:NUMBER; NULL: a plain process
    container: Name | None = None
    image: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    #: when the image is fetched: missing, always, never
    pull: Literal["missing", "always", "never"] = "missing"
    time_limit: Annotated[int, Meta(ge=1, le=LONGEST_TIME_LIMIT)] | None = None
    grace: Annotated[int, Meta(ge=0, le=3600)] | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0


class Submitted(View, kw_only=True):
    """The tasks that now exist."""

    batch: str
    tasks: list[str]


class ReasonView(View, kw_only=True, omit_defaults=True):
    """Why a task waits, in words and numbers; computed when asked."""

    code: str
    text: str
    #: tasks before it in the queue
    ahead: int | None = None


class ExitView(View, kw_only=True, omit_defaults=True):
    """How an attempt ended. `code` is the runtime's or absent, with a reason."""

    code: int | None = None
    signal: int | None = None
    oom: bool | None = None
    reason: str | None = None


class TaskView(View, kw_only=True):
    """A task. Fields from `command` on are null for those who may not see them."""

    id: str
    batch: str
    kind: str
    name: str | None
    owner: str
    status: str
    wanted: str
    #: true while its node is silent; computed
    unreachable: bool
    node: str | None
    attempt: int
    cores: int
    pin: bool
    memory: int | None
    devices: int
    priority: int
    submitted: datetime
    started: datetime | None
    finished: datetime | None
    exit: ExitView | None
    reason: ReasonView | None
    array: ArrayView | None = None
    after: list[AfterView] = []
    retry: RetryView | None = None
    #: it does not start before
    ready: datetime | None = None
    requeue: bool = False
    #: seconds of silence after which its node ends it by itself; null: never
    lease: int | None = None
    command: list[str] | None = None
    script: str | None = None
    env: dict[str, str] | None = None
    secrets: list[str] | None = None
    workdir: str | None = None
    target: str | None = None
    constraints: list[str] | None = None
    backend: str | None = None
    container: str | None = None
    image: str | None = None
    pull: str | None = None
    options: dict[str, Any] | None = None
    time_limit: int | None = None
    grace: int | None = None


class AttemptView(View, kw_only=True):
    """One run of a task on one node, with what it used."""

    attempt: int
    node: str
    placed: datetime
    accepted: datetime | None
    started: datetime | None
    finished: datetime | None
    exit: ExitView | None
    cpu_seconds: float | None
    memory_peak: int | None
    running_seconds: float | None
    stdout_bytes: int | None
    stderr_bytes: int | None


class EventView(View, kw_only=True):
    """Something that happened, and who or what caused it."""

    id: str
    at: datetime
    what: str
    actor: str
    task: str | None
    node: str | None
    user: str | None
    detail: dict[str, Any]


class ChangeView(View, kw_only=True, omit_defaults=True):
    """One line of the event stream: this changed; ask for it again if you show it."""

    id: int
    #: task, node, user, environment, container, operation or hello
    kind: str
    ref: str = ""
    status: str | None = None


class Kill(Request, kw_only=True):
    """End it. `grace` seconds between SIGTERM and SIGKILL; without it, the task's own."""

    grace: Annotated[int, Meta(ge=0, le=3600)] | None = None


class Because(Request, kw_only=True):
    """A reason in words."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class Remark(Request, kw_only=True):
    """A reason in words, for those who ask later; may be left out."""

    reason: Annotated[str, Meta(max_length=500)] = ""


class GpuView(View, kw_only=True):
    """A card of a node."""

    id: str
    index: int | None
    model: str
    memory: int
    task: str | None


class NodeView(View, kw_only=True):
    """A node. Address, version and facts are null for those below operator."""

    id: str
    name: str
    status: str
    draining: bool
    drain_reason: str | None
    #: why it takes no new work besides draining
    full: str | None
    cores: int
    cores_reserved: float
    memory: int
    memory_reserved: int
    gpus: list[GpuView]
    cordons: list[CordonView]
    labels: dict[str, str]
    backends: list[str]
    tasks: int
    #: seconds since the last word from it
    silent: float | None
    cpu: float | None
    memory_used: int | None
    temperature: float | None
    load: float | None
    disk_used: int | None
    disk_total: int | None
    version: str | None = None
    numa: list[dict[str, Any]] | None = None
    problems: list[str] | None = None
    #: seconds that its clock is ahead of the host's
    skew: float | None = None


class SampleView(View, kw_only=True):
    """One heartbeat of the last minutes."""

    at: datetime
    cpu: float | None
    memory_used: int | None
    memory_total: int | None
    load: float | None
    temperature: float | None
    disk_used: int | None
    running: int
    gpus: list[CardSampleView]


class NewNodeToken(Request, kw_only=True):
    """A token with which one machine may join under this name."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    #: seconds, an hour at most
    expires: Annotated[int, Meta(ge=60, le=3600)] = 3600


class NodeToken(View, kw_only=True):
    """The token, shown once, and the command for the new machine."""

    name: str
    token: str
    command: str
    expires: datetime


class Join(Request, kw_only=True):
    """A machine joins."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]


class Joined(View, kw_only=True):
    """Its credential, shown once."""

    node: str
    name: str
    credential: str
    cluster: str


class StatusView(View, kw_only=True):
    """The cluster in a few numbers."""

    cluster: str
    version: str
    nodes: dict[str, int]
    tasks: dict[str, int]
    cores: int
    cores_reserved: float
    memory: int
    memory_reserved: int
    gpus: int
    gpus_reserved: int
    user: str


class VersionView(View, kw_only=True):
    """What answers here."""

    product: str
    version: str


class HealthView(View, kw_only=True):
    """`ok`, and with `?verbose` each check."""

    ok: bool
    checks: dict[str, str] = {}


class PluginView(View, kw_only=True):
    """A plugin, as found on the host or, where the host has not got it, as the nodes tell of it."""

    name: str
    distribution: str
    version: str
    module: str
    api: int | None
    state: str
    problem: str | None
    provides: list[str]
    #: the nodes that have it
    nodes: list[str] = []
    #: what the probes of its backends say there: the node, its backend, and a sentence or `ok`
    probes: list[str] = []
