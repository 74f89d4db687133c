"""Numbers for monitoring in the text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).

Written by hand: a page of numbers needs no library. Names are those of dashboards and stay.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kohakuriver import __version__
from kohakuriver.domain.nodes import NodeStatus
from kohakuriver.host.cards import cordon_of
from kohakuriver.host.host import Host
from kohakuriver.store.open import FILE
from kohakuriver.store.tasks import count_by_kind

Labels = Mapping[str, str]
#: gauges of cards by the end of their name, and those of them that a heartbeat tells, by its field
CARD_GAUGES = {
    "utilization_ratio": "Share of the last moments in which something ran on the card.",
    "memory_used_bytes": "Memory of the card in use.",
    "memory_total_bytes": "Memory of the card.",
    "temperature_celsius": "Temperature of the card.",
    "power_watts": "Power that the card draws.",
    "cordoned": "Whether the card gets no new work.",
}
CARD_FIGURES = {
    "utilization_ratio": "utilization",
    "memory_used_bytes": "memory_used",
    "temperature_celsius": "temperature",
    "power_watts": "power",
}


@dataclass(kw_only=True)
class Family:
    """One name with its samples."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The family as text."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self._samples():
            words = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            named = f"{self.name}{suffix}"
            yield f"{named}{{{words}}} {_number(value)}" if words else f"{named} {_number(value)}"

    def _samples(self) -> Iterator[tuple[str, Labels, float]]:
        return (("", labels, value) for labels, value in self.samples)


@dataclass(kw_only=True)
class Histogram(Family):
    """Counts up to each bound, with their sum."""

    kind: str = "histogram"
    buckets: list[tuple[float, int]]
    sum: float

    def _samples(self) -> Iterator[tuple[str, Labels, float]]:
        for bound, count in self.buckets:
            yield "_bucket", {"le": _number(bound)}, count
        yield "_sum", {}, self.sum
        yield "_count", {}, self.buckets[-1][1]


async def measure(host: Host) -> str:
    """Every number as of now."""
    counts = await count_by_kind(host.store.reader)
    families = [_build(host), *_tasks(host, counts), *_nodes(host), *_gpus(host), *_gpu_use(host), _size(host)]
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _build(host: Host) -> Family:
    labels = {"version": __version__, "cluster": host.store.cluster}
    return _gauge("kohakuriver_build_info", "Version and cluster, in labels.", [(labels, 1)])


def _tasks(host: Host, counts: Mapping[tuple[str, str], int]) -> Iterable[Family]:
    by_state: list[tuple[Labels, float]] = [
        ({"state": state, "kind": kind}, count) for (state, kind), count in sorted(counts.items())
    ]
    waiting: list[tuple[Labels, float]] = [
        ({"reason": reason}, count) for reason, count in sorted(host.scheduler.reasons().items())
    ]
    yield _gauge("kohakuriver_tasks", "Tasks by state.", by_state)
    yield _gauge("kohakuriver_tasks_pending", "Waiting tasks by the reason they wait for.", waiting)
    yield Histogram(
        name="kohakuriver_task_wait_seconds",
        help="From submit to the first start, of tasks that started since this host did.",
        buckets=host.waits.cumulative(),
        sum=host.waits.sum,
    )
    yield Family(
        name="kohakuriver_scheduler_passes_total",
        kind="counter",
        help="Passes of the scheduler.",
        samples=[({}, host.scheduler.passes)],
    )
    yield _gauge(
        "kohakuriver_scheduler_pass_seconds",
        "Duration of the scheduler's last plan.",
        [({}, host.scheduler.last_duration)],
    )


def _nodes(host: Host) -> Iterable[Family]:
    now = host.clock.monotonic()
    members = host.roster.live()
    states = [member.status(now) for member in members]
    up: list[tuple[Labels, float]] = [
        ({"node": member.name}, state is NodeStatus.ONLINE) for member, state in zip(members, states, strict=True)
    ]
    ages: list[tuple[Labels, float]] = [
        ({"node": member.name}, silent) for member in members if (silent := member.silent(now)) is not None
    ]
    by_state: list[tuple[Labels, float]] = [
        ({"state": state.value}, states.count(state)) for state in NodeStatus if state is not NodeStatus.REVOKED
    ]
    yield _gauge("kohakuriver_nodes", "Nodes by state.", by_state)
    yield _gauge("kohakuriver_node_up", "Whether the node is online.", up)
    yield _gauge("kohakuriver_heartbeat_age_seconds", "Time since the last word of the node.", ages)


def _gpus(host: Host) -> Iterable[Family]:
    infos: list[tuple[Labels, float]] = []
    holders: list[tuple[Labels, float]] = []
    for member in host.roster.live():
        held = host.board.reserved(member.id)
        owners = {device: task for task, reserved in held.items() for device in reserved.devices}
        for device in member.inventory.devices:
            card = {"node": member.name, "Hostname": member.name, "gpu": str(device.index), "UUID": device.uuid or ""}
            task = host.board.get(owners.get(device.id, 0))
            infos.append(({**card, "uuid": device.uuid or "", "model": device.model}, 1))
            user = "" if task is None else host.owners.name(task.owner)
            holders.append(({**card, "user": user}, device.id in owners))
    yield _gauge("kohakuriver_gpu_info", "Cards, in labels.", infos)
    yield _gauge("kohakuriver_gpu_allocated", "Whether the card is given to a task.", holders)


def _gpu_use(host: Host) -> Iterable[Family]:
    """How the cards of nodes that are online do, as far as they tell."""
    samples: dict[str, list[tuple[Labels, float]]] = {name: [] for name in CARD_GAUGES}
    for member in host.roster.live():
        online = member.status(host.clock.monotonic()) is NodeStatus.ONLINE
        for device in member.inventory.devices:
            card = {"node": member.name, "gpu": str(device.index), "uuid": device.uuid or ""}
            use = member.use.cards.get(device.id) if online else None
            samples["cordoned"].append((card, cordon_of(member, device.id) is not None))
            samples["memory_total_bytes"].append((card, device.memory))
            for name, field_ in CARD_FIGURES.items():
                value = getattr(use, field_, None)
                if value is not None:
                    samples[name].append((card, value))
    for name, help in CARD_GAUGES.items():
        yield _gauge(f"kohakuriver_gpu_{name}", help, samples[name])


def _size(host: Host) -> Family:
    sizes = []
    for name in (FILE, f"{FILE}-wal"):
        try:
            sizes.append((Path(host.settings.data_dir) / name).stat().st_size)
        except OSError:
            continue
    samples: list[tuple[Labels, float]] = [({}, sum(sizes))] if sizes else []
    return _gauge("kohakuriver_db_size_bytes", "Size of the SQLite database; absent where another is used.", samples)


def _gauge(name: str, help: str, samples: list[tuple[Labels, float]]) -> Family:
    return Family(name=name, kind="gauge", help=help, samples=samples)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    return str(int(value)) if value == int(value) else repr(float(value))
