"""Messages of the link between host and runner; `contrib/notes/wire.md` gives order, limits and acknowledgement.

Unknown fields are ignored, an unknown message is answered `Unsupported`, and a field is only ever added with a
default: a host speaks to runners one release older and one newer.
"""

from datetime import datetime
from typing import Any

import msgspec

from kohakuriver.wire.cards import DeviceUse
from kohakuriver.wire.numbers import Count, Int

MAJOR = 1
#: bytes of one encoded message; anything bigger is a stream
MOST_MESSAGE = 256 * 1024
#: bytes of one encoded assignment; refused at submit above that
MOST_ASSIGNMENT = 128 * 1024
#: bytes of output, both streams together, that ride in the report of an exit; more is fetched by a stream
MOST_INLINE_OUTPUT = 64 * 1024
#: entries in one page of the inventory or of the wanted set
PAGE = 500
PING_SECONDS = 5.0
DEAD_SECONDS = 15.0
TICKET_SECONDS = 10.0
#: feature of a side that knows leases
LEASE = "lease"
STREAM_PROTOCOL = "kohakuriver-stream"


class Message(msgspec.Struct, kw_only=True, tag_field="t", omit_defaults=True):
    """Anything that crosses the link."""


class WireDevice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A card, as domain.resources.Device."""

    id: str
    kind: str = "gpu"
    model: str = ""
    memory: Count = 0
    uuid: str | None = None
    index: Count | None = None
    numa: Int | None = None
    group: str | None = None
    modes: list[str] = msgspec.field(default_factory=lambda: ["host"])
    #: version of its driver
    driver: str | None = None
    #: why nothing new should run on it, in words that change only when the evidence does
    fault: str | None = None


class WireCell(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A NUMA cell, as domain.resources.Cell."""

    id: Count = 0
    cpus: list[Count] = []
    siblings: list[Count] = []
    memory: Count = 0
    devices: list[WireDevice] = []


class BackendInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a node's backend can do; the host needs no plugin of its own for it (architecture.md §6)."""

    name: str
    usable: bool = True
    problems: list[str] = []
    #: kinds of image it takes; empty: it runs on the node's own files
    images: list[str] = []
    persistent: bool = False
    capabilities: list[str] = []
    #: JSON Schema of its options
    options: dict[str, Any] = {}
    facts: dict[str, str] = {}
    #: the plugin that brings it, and that one's package with its version, as this node has it
    plugin: str = ""
    package: str = ""
    #: version of the plugin contract
    api: Count = 0


class SyncerInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a node's way to get versions of environments is doing there."""

    name: str
    usable: bool = True
    problems: list[str] = []
    facts: dict[str, str] = {}


class Hello(Message, kw_only=True, tag="hello"):
    """The runner's first words. The node is known by its credential, not by what stands here."""

    major: int = MAJOR
    features: list[str] = []
    version: str = ""
    #: the cluster that this runner belongs to, "" before its first welcome
    cluster: str = ""
    #: the highest incarnation of the host that it has seen
    incarnation: Int = 0
    #: number of this journal's life; a wiped journal begins a new one
    epoch: Count
    boot: str
    session: str
    cells: list[WireCell] = []
    backends: list[BackendInfo] = []
    labels: dict[str, str] = {}
    #: cpus that are given out whole; the rest is shared. None: none is set apart
    pinnable: list[Count] | None = None
    #: the cells name every card there is: one that was named before and is not any more has vanished
    devices_told: bool = False
    #: wall clock of the node, to show its skew
    clock: datetime | None = None
    syncers: list[SyncerInfo] = []


class Welcome(Message, kw_only=True, tag="welcome"):
    """The host takes this session; an older session of the node is superseded."""

    major: int = MAJOR
    features: list[str] = []
    version: str = ""
    cluster: str
    incarnation: int
    session: str
    node: str
    heartbeat_seconds: float = 5.0
    #: highest report that the host has committed for this epoch
    acknowledged: int = 0


class Refused(Message, kw_only=True, tag="refused"):
    """The host does not take this session; `final` means that trying again is of no use before a person acts."""

    code: str
    reason: str
    final: bool = False


class Held(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One attempt in the runner's journal, as its inventory tells it."""

    attempt: str
    #: accepted, created, running, paused, exited, closed
    phase: str
    wish: int = 0
    wanted: str = "run"


class Inventory(Message, kw_only=True, tag="inventory"):
    """A page of everything in the runner's journal."""

    held: list[Held] = []
    last: bool = True


class Wish(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is wanted of an attempt; a lower revision than one seen is ignored."""

    attempt: str
    #: run, paused, stopped or killed
    wanted: str
    revision: int
    grace: float = 30.0


class WantedSet(Message, kw_only=True, tag="wanted"):
    """A page of wishes: the complete set after a reconnect, or single changes later."""

    wishes: list[Wish] = []
    complete: bool = False


class WireReserved(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the attempt holds, as domain.resources.Reserved."""

    cpu_milli: int = 0
    #: the CPU limit in thousandths of a core; None: no limit
    cpu_limit_milli: int | None = None
    cpus: list[int] = []
    cell: int | None = None
    memory: int = 0
    #: the memory limit in bytes; None: no limit
    memory_limit: int | None = None
    devices: list[str] = []
    share_milli: int = 1000


class WireVersion(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of an environment, and where its syncer keeps it."""

    environment: str
    number: Count
    #: of the image
    digest: str
    syncer: str = ""
    locator: str = ""
    #: bytes of all layers
    size: Count = 0
    #: contents of the host's store that it needs
    blobs: list[str] = []


class Assign(Message, kw_only=True, tag="assign"):
    """Run this attempt. Only this message starts anything; it may come twice."""

    attempt: str
    instance: str
    kind: str = "command"
    name: str | None = None
    owner: str
    backend: str | None = None
    argv: list[str] = []
    script: str | None = None
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    workdir: str | None = None
    #: the version of an environment that it runs in, as NAME:NUMBER; `environment` says where that is
    container: str | None = None
    environment: WireVersion | None = None
    image: str | None = None
    #: missing, always or never: when an image is fetched
    pull: str = "missing"
    options: dict[str, Any] = {}
    reserved: WireReserved
    time_limit: float | None = None
    #: seconds without contact after which the runner ends it by itself; None: silence ends nothing
    lease: float | None = None
    grace: float = 30.0
    wanted: str = "run"
    revision: int = 0


class WireExit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How it ended, in the runtime's words."""

    code: Int | None = None
    signal: Int | None = None
    oom: bool | None = None
    reason: str | None = None


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an attempt used, as far as the backend could tell. Seconds and bytes."""

    cpu_seconds: float | None = None
    memory_peak: Count | None = None
    #: seconds in `running`, pauses left out
    running_seconds: float | None = None


class Sealed(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stream of output at its end. The first `head` bytes and the last `tail` bytes are kept; `size` is all."""

    size: Count = 0
    head: Count = 0
    tail: Count = 0
    #: True: `size` is a lower bound, for bytes went by unseen
    at_least: bool = False
    #: the kept bytes, head then tail, when they are few
    data: bytes | None = None


class Report(Message, kw_only=True, tag="report"):
    """What happened to an attempt, in the order of `seq`; kept by the runner until it is acknowledged."""

    seq: Count
    attempt: str
    #: accepted, refused_for_now, refused_for_good, started, start_failed, never_started, paused, resumed,
    #: limit_reached, exited, recovered, unknown
    what: str
    #: wall clock of the node when it happened; for people, never for decisions
    at: datetime | None = None
    reason: str | None = None
    exit: WireExit | None = None
    #: killed, stopped or timed_out, when our signal was delivered before the end
    signalled: str | None = None
    usage: Usage | None = None
    stdout: Sealed | None = None
    stderr: Sealed | None = None
    #: of a recovered body: who it says it belongs to, and what it is
    found: dict[str, str] | None = None


class Ack(Message, kw_only=True, tag="ack"):
    """All reports up to `seq` are committed at the host."""

    seq: int


class Forget(Message, kw_only=True, tag="forget"):
    """The host has the reports and the output of all of these: bodies and journal rows may go. May come twice."""

    attempts: list[str]


class Progress(Message, kw_only=True, tag="progress"):
    """How far a preparation is. May be lost."""

    attempt: str
    note: str


class Heartbeat(Message, kw_only=True, tag="heartbeat"):
    """The state of the machine. Only the newest counts. Fractions are 0 to 1, temperatures in degrees Celsius."""

    #: within the session, from 1; the host names it when it renews leases
    number: Count = 0
    at: datetime | None = None
    cpu: float | None = None
    load: float | None = None
    memory_used: Count | None = None
    memory_total: Count | None = None
    disk_used: Count | None = None
    disk_total: Count | None = None
    temperature: float | None = None
    running: Count = 0
    #: attempt -> (cpu seconds, bytes of memory)
    stats: dict[str, tuple[float, int]] = {}
    #: the cards that answered
    devices: list[DeviceUse] = []
    #: what a probe could not find out, and why
    missing: dict[str, str] = {}


class Renew(Message, kw_only=True, tag="renew"):
    """The host has this session's heartbeat of that number: the leases of fenced attempts count from its sending."""

    number: Count


class Dial(Message, kw_only=True, tag="dial"):
    """Open a connection to the host for one stream, and show this ticket (one use, 10 s)."""

    ticket: str
    #: output, archive, environment
    kind: str
    attempt: str
    arguments: dict[str, str] = {}


class DialFailed(Message, kw_only=True, tag="dial_failed"):
    """The runner cannot open that stream."""

    ticket: str
    reason: str


class Refresh(Message, kw_only=True, tag="refresh"):
    """The node's inventory or backends changed since hello."""

    cells: list[WireCell] = []
    backends: list[BackendInfo] = []
    #: as in hello
    pinnable: list[Count] | None = None
    #: as in hello
    devices_told: bool = False
    syncers: list[SyncerInfo] = []


class Unsupported(Message, kw_only=True, tag="unsupported"):
    """The sender of this does not know that message."""

    message: str


class Envelope(msgspec.Struct, kw_only=True):
    """What can be read of a message that cannot be read as a whole."""

    t: str = ""
    attempt: str = ""


FromRunner = Hello | Inventory | Report | Heartbeat | Progress | DialFailed | Refresh | Unsupported
FromHost = Welcome | Refused | WantedSet | Assign | Ack | Forget | Dial | Renew | Unsupported
