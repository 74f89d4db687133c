"""Bodies of the HTTP API about what is in use: cards, cordons, the cluster at one look; the rest is in `api.py`."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta


class CordonCard(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A card of the node: its index, PCI address or UUID; and why, for those who ask later."""

    device: Annotated[str, Meta(min_length=1, max_length=200)]
    reason: Annotated[str, Meta(max_length=500)] = ""


class UncordonCard(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A card of the node: its index, PCI address or UUID."""

    device: Annotated[str, Meta(min_length=1, max_length=200)]


class CordonView(msgspec.Struct, kw_only=True):
    """A card that gets no new work. What runs on it is left alone."""

    device: str
    #: null for a card that is not there now
    index: int | None
    reason: str
    since: datetime
    #: the operator, or the node whose word it was
    by: str


class CardSampleView(msgspec.Struct, kw_only=True):
    """A card at one heartbeat."""

    id: str
    utilization: float | None
    memory_used: int | None
    temperature: float | None
    power: float | None


class CardProcessView(msgspec.Struct, kw_only=True):
    """A process on a card; without a task it is nobody's that KohakuRiver knows of."""

    pid: int
    #: bytes of the card's memory
    memory: int | None
    task: str | None
    owner: str | None


class CardView(msgspec.Struct, kw_only=True):
    """A card of the cluster, how it does, and who has it. Null where it does not tell."""

    node: str
    node_status: str
    id: str
    index: int | None
    model: str
    uuid: str | None
    driver: str | None
    numa: int | None
    #: whether it is there and its driver serves it
    usable: bool
    memory: int
    memory_used: int | None
    #: fraction of the last moments in which something ran on it, 0 to 1
    utilization: float | None
    temperature: float | None
    #: watts
    power: float | None
    power_limit: float | None
    #: uncorrectable ECC errors since its driver was loaded
    uncorrected: int | None
    #: the last critical error of its driver
    xid: int | None
    #: the task that has it, with its name, owner and status
    task: str | None
    name: str | None
    owner: str | None
    status: str | None
    #: seconds for which nothing has run on it
    idle: float | None
    #: reserved, and idle for ten minutes or more
    unused: bool
    cordon: CordonView | None
    processes: list[CardProcessView]


class NodeUseView(msgspec.Struct, kw_only=True):
    """A node: what it has, what is reserved, what is in use."""

    name: str
    status: str
    draining: bool
    tasks: int
    cores: int
    cores_reserved: float
    #: fraction of all processors in use
    cpu: float | None
    memory: int
    memory_reserved: int
    memory_used: int | None
    gpus: int
    gpus_reserved: int
    gpus_cordoned: int
    #: mean of those cards that tell it
    gpu_utilization: float | None
    gpu_memory: int
    gpu_memory_used: int | None


class TaskUseView(msgspec.Struct, kw_only=True):
    """A task that holds something: what is reserved for it and what it uses. Null where nobody tells."""

    id: str
    name: str | None
    owner: str
    status: str
    node: str
    cores: float
    #: cores in use since the heartbeat before the last
    cpu: float | None
    memory: int
    memory_used: int | None
    #: its cards by index, and by id where a card has none
    gpus: list[str]
    gpu_utilization: float | None
    gpu_memory_used: int | None
    started: datetime | None
    #: seconds for which it has used none of its cards, or without cards no processor
    idle: float | None
    #: idle for ten minutes or more
    unused: bool
    #: for those who may see it
    command: list[str] | None


class UseView(msgspec.Struct, kw_only=True):
    """The whole cluster at one look; `more` tasks were left out by the limit, the least greedy ones."""

    at: datetime
    nodes: list[NodeUseView]
    tasks: list[TaskUseView]
    more: int
    #: length of the queue
    waiting: int
