"""A lab of eight machines with mixed cards and NUMA cells, and ten thousand tasks that wait: what a plan looks at, and
that nothing is ever given twice. Work is counted, not timed.
"""

import random
from collections import Counter

import pytest

from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.queue import Queue
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.units import GIB

from .test_placement import cell, gpu, node, spec, task
from .test_placement_properties import free_of

MODELS = ("NVIDIA A100", "NVIDIA RTX A6000", "Tesla T4", "NVIDIA H100")


def machine(number):
    """Two cells of 16 cores; every other machine has four cards in each, of two models."""
    cells = []
    for side in range(2):
        model = MODELS[(number + side) % 4]
        first = side * 4
        cards = [gpu(index, model=model, numa=side) for index in range(first, first + 4)] if number % 2 else []
        cells.append(cell(side, cpus=16, memory=64 * GIB, devices=cards, first=side * 16, threads=2))
    return node(number, *cells)


LAB = tuple(machine(number) for number in range(1, 9))


def waiting(count, kinds=60, seed=5):
    chance = random.Random(seed)
    specs = [
        spec(
            chance.choice([1, 1, 2, 4, 8]),
            chance.choice([None, GIB, 8 * GIB]),
            gpus=chance.choice([0, 0, 0, 1, 2]),
            model=chance.choice([None, "a100", "t4"]),
            pin=chance.random() < 0.2,
            time_limit=chance.choice([None, 60, 3600]),
            priority=chance.choice([0, 0, 0, 1]),
        )
        for _ in range(kinds)
    ]
    return [task(id, chance.choice(specs), owner=chance.randint(1, 5)) for id in range(1, count + 1)]


@pytest.fixture
def looks(monkeypatch):
    """How often a plan asked a node whether something fits, and wanted to know a task."""
    counted = Counter()
    fits, known = Room.fits, Queue.task

    def count_fits(room, need):
        counted["fits"] += 1
        return fits(room, need)

    def count_tasks(queue, id):
        counted["tasks"] += 1
        return known(queue, id)

    monkeypatch.setattr(Room, "fits", count_fits)
    monkeypatch.setattr(Queue, "task", count_tasks)
    return counted


def test_a_queue_ten_times_as_long_costs_a_plan_no_more_looks(looks):
    counts = {}
    for length in (1000, 10_000):
        queue = Queue(waiting(length))
        looks.clear()
        made = plan(Snapshot(LAB), queue)
        counts[length] = (looks["fits"] / len(made.placements), looks["tasks"])
        groups = len(list(queue.groups()))
        # the first of each kind, and one more for each that was placed
        assert looks["tasks"] <= 2 * (groups + len(made.placements))
    assert counts[10_000][0] <= 1.2 * counts[1000][0]
    assert counts[10_000][1] <= 1.5 * counts[1000][1]


def test_a_pass_over_full_machines_asks_nobody_behind_the_first_that_waits(looks):
    full = {one.id: (reserved_all(one),) for one in LAB}
    queue = Queue(waiting(10_000))
    looks.clear()
    assert plan(Snapshot(LAB, full), queue, most=64).placements == ()
    assert looks["tasks"] <= len(list(queue.groups())) + 1
    assert looks["fits"] <= len(LAB)
    assert len(plan(Snapshot(LAB, full), queue).reasons) == 10_000


def reserved_all(one):
    return Reserved(task=20_000 + one.id, generation=1, cpu_milli=one.inventory.amount.cpu_milli)


def test_asking_why_one_task_waits_words_one_reason_and_not_ten_thousand(looks):
    queue = Queue(waiting(10_000))
    made = plan(Snapshot(LAB), queue)
    looks.clear()
    last = max(made.reasons)
    assert made.reasons[last].text
    assert made.ahead[last] > 9000
    assert sum(made.tally().values()) == 10_000 - len(made.placements)


def test_a_long_queue_runs_through_and_nothing_is_ever_over_what_a_machine_has():
    chance = random.Random(11)
    queue, held = Queue(waiting(10_000)), {one.id: {} for one in LAB}
    placed = rounds = 0
    while placed < 1500:
        rounds += 1
        assert rounds < 500
        snapshot = Snapshot(LAB, {id: tuple(there.values()) for id, there in held.items()})
        for one in plan(snapshot, queue, most=64).placements:
            held[one.node][one.task] = one.reserved
            queue.discard(one.task)
            placed += 1
        for machine_ in LAB:
            check(machine_, list(held[machine_.id].values()))
            for done in chance.sample(sorted(held[machine_.id]), len(held[machine_.id]) // 3):
                del held[machine_.id][done]


def check(machine_, held):
    milli, _, memory, cards = free_of(machine_, held)
    assert milli >= 0
    assert memory >= 0
    assert len(cards) + sum(len(one.devices) for one in held) == len(machine_.inventory.devices)
    cpus = [cpu for one in held for cpu in one.cpus]
    assert len(cpus) == len(set(cpus))
