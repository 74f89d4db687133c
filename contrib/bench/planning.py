"""B7: the plan by itself, in this process: fifty nodes with mixed cards and two NUMA cells, and a queue."""

import random
import time
from datetime import UTC, datetime

from figures import PAIRS, Book, alternate, median, ratios

from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.queue import Queue
from kohakuriver.domain.resources import Cell, Device, DeviceRequest, Inventory, Request, Reserved
from kohakuriver.domain.tasks import Status, Task, TaskSpec

GIB = 1 << 30
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = 50
SHORT, LONG = 1_000, 10_000
#: tasks placed in one measurement, and by one plan at most, as the scheduler does
PLACED, PASS = 800, 64
KINDS = 40
MODELS = ("NVIDIA A100", "NVIDIA RTX A6000", "Tesla T4")


def placements(book: Book, *, full: bool) -> None:
    """B7: placements a second, and what a queue ten times as long adds to one placement."""
    pairs = alternate(lambda: placing(LONG), lambda: placing(SHORT), 2 * PAIRS if full else PAIRS)
    rates = [1 / long for long, _ in pairs]
    book.add("B7", f"placements, {NODES} nodes, {LONG:,} tasks of {KINDS} kinds wait", median(rates), "/s", goal=1000,
             most=False, spread=rates)  # fmt: skip
    longer = ratios(pairs)
    book.add("B7", f"one placement, {LONG:,} / {SHORT:,} tasks wait", median(longer), "x", goal=1.2, spread=longer)


def placing(length: int) -> float:
    """Seconds of the processor for one placement, while tasks end, others take their place and new ones come."""
    chance = random.Random(7)
    nodes = tuple(node(number) for number in range(NODES))
    tasks = iter(some_tasks(chance, length + 3 * PLACED))
    queue = Queue(next(tasks) for _ in range(length))
    held: dict[int, dict[int, Reserved]] = {one.id: {} for one in nodes}
    _fill(nodes, queue, held, tasks)
    count, spent = 0, 0.0
    while count < PLACED:
        for on_node in held.values():
            for task in chance.sample(sorted(on_node), min(len(on_node), 2)):
                del on_node[task]
        snapshot = _snapshot(nodes, held)
        began = time.process_time()
        made = plan(snapshot, queue, most=PASS).placements
        spent += time.process_time() - began
        count += len(made)
        for one in made:
            held[one.node][one.task] = one.reserved
            queue.discard(one.task)
            queue.add(next(tasks))
    return spent / count


def _fill(nodes: tuple[Node, ...], queue: Queue, held: dict[int, dict[int, Reserved]], tasks) -> None:
    for one in plan(_snapshot(nodes, held), queue, most=PLACED).placements:
        held[one.node][one.task] = one.reserved
        queue.discard(one.task)
        queue.add(next(tasks))


def _snapshot(nodes: tuple[Node, ...], held: dict[int, dict[int, Reserved]]) -> Snapshot:
    """Two of three running tasks have a time limit."""
    ends = {task: float(task % 3000) for on_node in held.values() for task in on_node if task % 3}
    return Snapshot(nodes, {id: tuple(on_node.values()) for id, on_node in held.items()}, at=NOW, ends=ends)


def node(number: int) -> Node:
    cells = tuple(
        Cell(id=cell, cpus=tuple(range(cell * 32, cell * 32 + 32)), memory=128 * GIB, devices=cards(number, cell))
        for cell in range(2)
    )
    return Node(
        id=number + 1,
        name=f"node{number + 1:02}",
        status=NodeStatus.ONLINE,
        backends=frozenset({"process"}),
        inventory=Inventory(cells=cells),
    )


def cards(number: int, cell: int) -> tuple[Device, ...]:
    if number % 2:
        return ()
    return tuple(
        Device(id=f"0000:{index:02x}:00.0", model=MODELS[number % 3], memory=48 * GIB, index=index, numa=cell)
        for index in range(cell * 4, cell * 4 + 4)
    )


def some_tasks(chance: random.Random, count: int) -> list[Task]:
    specs = [
        TaskSpec(
            request=Request(
                cores=chance.choice([1, 1, 2, 4, 8, 16]),
                memory=chance.choice([None, GIB, 4 * GIB, 16 * GIB]),
                devices=DeviceRequest(count=chance.choice([0, 0, 0, 1, 2]), model=chance.choice([None, "a100"])),
            ),
            time_limit=chance.choice([None, 60, 3600]),
            priority=chance.choice([0, 0, 1]),
        )
        for _ in range(KINDS)
    ]
    return [
        Task(
            id=number,
            batch=number,
            owner=chance.randint(1, 10),
            spec=chance.choice(specs),
            status=Status.PENDING,
            submitted=NOW,
        )
        for number in range(1, count + 1)
    ]
