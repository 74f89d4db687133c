"""Any cluster, any queue: never over capacity, nothing given twice, every reason true. Checked by plain counting."""

import random
import re
from collections import Counter
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain.limits import Limits, Usage
from kohakuriver.domain.never import never_fits
from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.resources import Cell, Device, DeviceRequest, Inventory, Request, Reserved
from kohakuriver.domain.targets import Target
from kohakuriver.domain.tasks import Kind, Status, Task, TaskSpec, Wanted

NOW = datetime(2025, 1, 1, tzinfo=UTC)
SLOW = settings(max_examples=120, deadline=None)
MODELS = ("NVIDIA A100", "Tesla T4")


@st.composite
def nodes(draw, id):
    cells, first = [], 0
    for number in range(draw(st.integers(1, 2))):
        count = draw(st.integers(1, 6))
        cards = tuple(
            Device(
                id=f"{number}:{card}",
                model=draw(st.sampled_from(MODELS)),
                memory=draw(st.sampled_from([16, 40])),
                index=number * 2 + card,
                numa=number,
            )
            for card in range(draw(st.integers(0, 2)))
        )
        cpus = tuple(range(first, first + count))
        cells.append(
            Cell(
                id=number,
                cpus=cpus,
                siblings=tuple(cpu // 2 * 2 for cpu in cpus),
                memory=draw(st.integers(0, 64)),
                devices=cards,
            )
        )
        first += 10
    everything = [cpu for cell in cells for cpu in cell.cpus]
    return Node(
        id=id,
        name=f"n{id}",
        status=draw(st.sampled_from([NodeStatus.ONLINE] * 5 + list(NodeStatus))),
        draining=draw(st.integers(0, 9)) == 0,
        full=draw(st.integers(0, 9)) == 0,
        inventory=Inventory(cells=tuple(cells)),
        backends=draw(st.sampled_from([frozenset({"process"}), frozenset({"process", "docker"}), frozenset()])),
        pinnable=draw(st.none() | st.sets(st.sampled_from(everything)).map(frozenset)),
    )


REQUESTS = st.builds(
    Request,
    cores=st.integers(0, 5),
    pin=st.booleans(),
    memory=st.none() | st.integers(0, 40),
    devices=st.builds(
        DeviceRequest,
        count=st.sampled_from([0, 0, 0, 1, 2]),
        model=st.sampled_from([None, "a100", "t4", "h100"]),
        memory=st.sampled_from([None, 20]),
    ),
)
TARGETS = st.builds(
    Target,
    node=st.sampled_from(["n1", "n2", "n9"]),
    numa=st.sampled_from([None, None, 0, 1]),
    devices=st.sampled_from([(), (), (0,), (0, 2), (7,)]),
)
SPECS = st.builds(
    TaskSpec,
    kind=st.sampled_from(Kind),
    request=REQUESTS,
    target=st.none() | st.none() | TARGETS,
    backend=st.sampled_from([None, None, "process", "docker"]),
    priority=st.integers(0, 2),
    time_limit=st.sampled_from([None, None, 10, 60]),
)


@st.composite
def clusters(draw):
    some = tuple(draw(nodes(id)) for id in range(1, draw(st.integers(0, 4)) + 1))
    held = {
        node.id: tuple(
            Reserved(
                task=900 + turn, generation=1, cpu_milli=draw(st.integers(0, 2500)), memory=draw(st.integers(0, 20))
            )
            for turn in range(draw(st.integers(0, 2)))
        )
        for node in some
    }
    ends = draw(st.dictionaries(st.integers(900, 902), st.sampled_from([5.0, 40.0, 400.0])))
    return Snapshot(some, held, ends=ends)


@st.composite
def queues(draw):
    return [
        Task(
            id=id,
            batch=id,
            owner=draw(st.integers(1, 2)),
            spec=draw(SPECS),
            status=Status.PENDING,
            wanted=draw(st.sampled_from([Wanted.RUN] * 8 + [Wanted.PAUSED])),
            node=draw(st.sampled_from([None, None, 1, 2])),
            submitted=NOW,
        )
        for id in range(1, draw(st.integers(0, 12)) + 1)
    ]


USAGES = st.builds(
    Usage,
    limits=st.dictionaries(
        st.integers(1, 2), st.builds(Limits, tasks=st.none() | st.integers(0, 4), cores=st.none() | st.integers(0, 9))
    ),
)


def held_after(snapshot, made):
    held = {node.id: list(snapshot.reserved.get(node.id, ())) for node in snapshot.nodes}
    for placement in made.placements:
        held[placement.node].append(placement.reserved)
    return held


def free_of(node, held):
    """Free shared thousandths, pinnable cpus, memory, and cards of a node, counted the slow way."""
    everything = set(node.inventory.cpus)
    taken = {cpu for one in held for cpu in one.cpus}
    cards = {card for one in held for card in one.devices}
    if node.pinnable is None:
        milli = 1000 * len(everything) - sum(one.cpu_milli for one in held)
        cpus = everything - taken
    else:
        milli = 1000 * len(everything - node.pinnable) - sum(one.cpu_milli for one in held if not one.cpus)
        cpus = (everything & node.pinnable) - taken
    memory = node.inventory.memory - sum(one.memory for one in held)
    return milli, cpus, memory, [card for card in node.inventory.devices if card.id not in cards]


def could_take(node, held, spec):
    """Whether the node could run one more of these, counted the slow way."""
    milli, cpus, memory, cards = free_of(node, held)
    request, target = spec.request, spec.target
    cores, need = request.cores or 1, request.memory or 0
    numa = target.numa if target else None
    if need > memory:
        return False
    if request.pin or numa is not None:
        if numa is not None:
            cell = node.inventory.cell(numa)
            if cell is None or need > cell.memory - sum(one.memory for one in held if one.cell == numa):
                return False
            cpus &= set(cell.cpus)
        if cores > len(cpus) or (node.pinnable is None and cores * 1000 > milli):
            return False
    elif cores * 1000 > milli:
        return False
    wanted = request.devices
    good = [
        card
        for card in cards
        if (wanted.model or "").lower() in card.model.lower() and card.memory >= (wanted.memory or 0)
    ]
    if target and target.devices:
        return set(target.devices) <= {card.index for card in good}
    return wanted.count <= len(good)


def takes_work(node, spec):
    usable = spec.backend in node.backends or (spec.backend is None and bool(node.backends))
    here = spec.target is None or spec.target.node == node.name
    return here and usable and node.status is NodeStatus.ONLINE and not node.draining and not node.full


@SLOW
@given(clusters(), queues(), USAGES)
def test_a_plan_never_exceeds_a_node_and_gives_nothing_twice(snapshot, queue, usage):
    made = plan(snapshot, queue, usage)
    after = held_after(snapshot, made)
    specs = {task.id: task.spec for task in queue}
    for node in snapshot.nodes:
        new = [placement.reserved for placement in made.placements if placement.node == node.id]
        if not new:
            continue
        milli, _, memory, _ = free_of(node, after[node.id])
        # what was there before may exceed; what is added may not make use of what is not there
        if any(not one.cpus for one in new) or node.pinnable is None:
            assert milli >= 0
        assert memory >= 0 or not any(one.memory for one in new)
        for cell in node.inventory.cells:
            assert sum(one.memory for one in new if one.cell == cell.id) <= cell.memory
        cpus = Counter(cpu for one in new for cpu in one.cpus)
        cards = Counter(card for one in new for card in one.devices)
        assert max([*cpus.values(), *cards.values()], default=1) == 1
        assert set(cpus) <= set(node.inventory.cpus) & (
            node.pinnable if node.pinnable is not None else set(node.inventory.cpus)
        )
        by_id = {card.id: card for card in node.inventory.devices}
        for one in new:
            check_one(specs[one.task], node, one, by_id)


def check_one(spec, node, one, cards):
    """The reservation is what was asked for, where it was asked for."""
    request, target = spec.request, spec.target
    pinned = request.pin or (target is not None and target.numa is not None)
    assert one.cpu_milli == 1000 * (request.cores or 1)
    assert len(one.cpus) == (request.cores or 1 if pinned else 0)
    assert one.memory == (request.memory or 0)
    assert takes_work(node, spec)
    given_cards = [cards[card] for card in one.devices]
    assert all((request.devices.model or "") in card.model.lower() for card in given_cards)
    assert all(card.memory >= (request.devices.memory or 0) for card in given_cards)
    if target is not None and target.numa is not None:
        assert one.cell == target.numa
    if one.cell is not None:
        assert set(one.cpus) <= set(node.inventory.cell(one.cell).cpus)
    if target is not None and target.devices:
        assert {card.index for card in given_cards} == set(target.devices)
    else:
        assert len(given_cards) == request.devices.count


@SLOW
@given(clusters(), queues(), USAGES)
def test_every_task_is_placed_or_has_a_reason_and_the_reason_is_true(snapshot, queue, usage):
    made = plan(snapshot, queue, usage)
    placed = {placement.task: placement.node for placement in made.placements}
    assert sorted([*placed, *made.reasons]) == [task.id for task in queue]
    after = held_after(snapshot, made)
    names = {node.name: node for node in snapshot.nodes}
    for task in queue:
        bound = task.node if task.spec.kind is Kind.VPS else None
        if task.id in placed:
            assert bound in {None, placed[task.id]}
            assert task.wanted is Wanted.RUN
            continue
        reason = made.reasons[task.id]
        able = [
            node
            for node in snapshot.nodes
            if takes_work(node, task.spec) and bound in {None, node.id} and could_take(node, after[node.id], task.spec)
        ]
        if reason.code in {"resources", "node_unavailable", "backend", "no_nodes", "unknown_node"}:
            assert not able
        elif reason.code == "kept":
            assert able
            assert any((-o.spec.priority, o.id) < (-task.spec.priority, task.id) for o in queue if o.id not in placed)
        elif reason.code == "paused":
            assert task.wanted is Wanted.PAUSED
        else:
            assert reason.code == "owner_limit"
            assert task.owner in usage.limits
        if reason.code == "resources":
            node = names[re.search(r" on (n\d)$", reason.text)[1]]
            assert takes_work(node, task.spec)
            check_numbers(reason.text, node, after[node.id], task.spec)


def check_numbers(text, node, held, spec):
    """The free figures in the sentence are those of the node it names."""
    milli, cpus, memory, _ = free_of(node, held)
    numa = spec.target.numa if spec.target else None
    said = re.search(r"most free is ([0-9.]+) cores?(?:, (\d+) bytes?)?", text)
    if numa is None and not spec.request.pin:
        assert float(said[1]) == max(milli, 0) / 1000
    elif node.pinnable is not None and numa is None:
        assert float(said[1]) == len(cpus)
    if said[2] is not None and numa is None:
        assert int(said[2]) == max(memory, 0)


@SLOW
@given(clusters(), queues(), USAGES, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_queue_it_is_given(snapshot, queue, usage, rng: random.Random):
    shuffled = list(queue)
    rng.shuffle(shuffled)
    first, second = plan(snapshot, queue, usage), plan(snapshot, shuffled, usage)
    assert first.placements == second.placements
    assert dict(first.reasons) == dict(second.reasons)
    assert first.ahead == second.ahead


@SLOW
@given(clusters(), SPECS)
def test_never_means_never_and_anything_else_starts_on_an_empty_cluster(snapshot, spec):
    open_nodes = tuple(
        Node(
            id=node.id,
            name=node.name,
            status=NodeStatus.ONLINE,
            inventory=node.inventory,
            backends=node.backends,
            pinnable=node.pinnable,
        )
        for node in snapshot.nodes
        if node.status is not NodeStatus.REVOKED
    )
    task = Task(id=1, batch=1, owner=1, spec=spec, status=Status.PENDING, submitted=NOW)
    starts = bool(plan(Snapshot(open_nodes), [task]).placements)
    reason = never_fits(snapshot, spec)
    if reason is None:
        assert starts or not open_nodes
    elif reason.code != "contradiction":
        assert not starts
