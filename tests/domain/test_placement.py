"""Placement: the order, the targets, the pinning, the cards, the limits, and the words for what waits."""

from datetime import UTC, datetime

import pytest

from kohakuriver.domain.limits import Held, Limits, Usage
from kohakuriver.domain.never import never_fits
from kohakuriver.domain.nodes import Node, NodeStatus, Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.resources import Cell, Device, DeviceRequest, Inventory, Request, Reserved
from kohakuriver.domain.targets import parse_target
from kohakuriver.domain.tasks import Kind, Status, Task, TaskSpec, Wanted
from kohakuriver.domain.units import GIB

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def gpu(index, *, model="NVIDIA A100", memory=40 * GIB, numa=0, **changes):
    fields = {"id": f"0000:{index:02x}:00.0", "model": model, "memory": memory, "index": index, "numa": numa}
    return Device(**{**fields, **changes})


def cell(id=0, cpus=4, memory=16 * GIB, devices=(), first=0, threads=1):
    numbers = tuple(range(first, first + cpus))
    siblings = tuple(first + (cpu - first) // threads * threads for cpu in numbers)
    return Cell(id=id, cpus=numbers, siblings=siblings, memory=memory, devices=tuple(devices))


def node(id=1, *cells, **changes):
    fields = {"name": f"node{id}", "status": NodeStatus.ONLINE, "backends": frozenset({"process"})}
    return Node(**{"id": id, "inventory": Inventory(cells=cells or (cell(),)), **fields, **changes})


def spec(cores=1, memory=None, target=None, gpus=0, model=None, vram=None, **changes):
    request = {"cores": cores, "memory": memory, "pin": changes.pop("pin", False)}
    devices = DeviceRequest(count=gpus, model=model, memory=vram)
    where = parse_target(target) if target else None
    return TaskSpec(request=Request(devices=devices, **request), target=where, **changes)


def task(id, the_spec=None, **changes):
    fields = {"batch": id, "owner": 1, "status": Status.PENDING, "submitted": NOW}
    return Task(**{"id": id, "spec": the_spec or spec(), **fields, **changes})


def where(made):
    return {placement.task: placement.node for placement in made.placements}


def reserved(made, id):
    return next(placement.reserved for placement in made.placements if placement.task == id)


def test_higher_priority_goes_first_then_the_older():
    queue = [task(3, spec(cores=4)), task(2, spec(cores=4)), task(9, spec(cores=4, priority=1))]
    nodes = Snapshot((node(1), node(2)))
    made = plan(nodes, queue)
    assert [placement.task for placement in made.placements] == [9, 2]
    assert (made.reasons[3].text, made.ahead[3]) == ("needs 4 cores; most free is 0 cores on node1", 0)


def test_what_waits_for_its_own_node_does_not_hold_back_what_goes_elsewhere():
    queue = [task(1, spec(cores=3)), task(2, spec(cores=2, target="node1")), task(3, spec(cores=1))]
    made = plan(Snapshot((node(1), node(2, backends=frozenset()), node(3))), queue)
    assert set(where(made)) == {1, 3}
    assert made.reasons[2].code == "resources"


def test_the_waiting_are_counted_in_their_order():
    made = plan(Snapshot((node(),)), [task(id, spec(cores=4)) for id in range(1, 6)])
    assert [made.ahead[id] for id in (2, 3, 4, 5)] == [0, 1, 2, 3]
    assert {1, 77}.isdisjoint(made.reasons)
    assert {1, 77}.isdisjoint(made.ahead)


def test_a_task_goes_to_the_fullest_node_that_will_do():
    held = {2: (Reserved(task=8, generation=1, cpu_milli=2000),)}
    assert where(plan(Snapshot((node(1), node(2), node(3)), held), [task(1, spec(cores=2))])) == {1: 2}
    assert where(plan(Snapshot((node(1), node(2), node(3)), held), [task(1, spec(cores=3))])) == {1: 1}


def test_a_task_without_cards_leaves_nodes_with_cards_alone():
    nodes = Snapshot((node(1, cell(devices=[gpu(0)])), node(2)))
    assert where(plan(nodes, [task(1)])) == {1: 2}


def test_another_strategy_can_be_put_in():
    def spread(room, need):
        return room.turn, room.order

    nodes = Snapshot((node(1), node(2), node(3)))
    assert where(plan(nodes, [task(id) for id in range(1, 5)], strategy=spread)) == {1: 1, 2: 2, 3: 3, 4: 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": NodeStatus.OFFLINE}, "node1 is offline"),
        ({"status": NodeStatus.SUSPECT}, "node1 is suspect"),
        ({"draining": True, "drain_reason": "new disk"}, "node1 is draining (new disk)"),
        ({"full": True, "full_reason": "recovered bodies"}, "node1 takes no new work (recovered bodies)"),
    ],
)
@pytest.mark.parametrize("target", [None, "node1"])
def test_a_node_that_takes_no_work_gets_none(change, words, target):
    made = plan(Snapshot((node(1, **change),)), [task(1, spec(target=target))])
    assert made.placements == ()
    assert (made.reasons[1].code, made.reasons[1].text) == ("node_unavailable", words)


def test_several_closed_nodes_are_named_and_the_rest_counted():
    nodes = tuple(node(id, status=NodeStatus.OFFLINE) for id in range(1, 6))
    text = plan(Snapshot(nodes), [task(1)]).reasons[1].text
    assert text == "no node takes it now: node1 is offline, node2 is offline, node3 is offline and 2 more"


def test_without_a_node_the_queue_says_how_to_add_one():
    assert plan(Snapshot(), [task(1)]).reasons[1].code == "no_nodes"
    assert plan(Snapshot((node(status=NodeStatus.REVOKED),)), [task(1)]).reasons[1].code == "no_nodes"


def test_a_target_is_honoured_and_waits_for_itself_alone():
    nodes = Snapshot((node(1), node(2)), {2: (Reserved(task=8, generation=1, cpu_milli=4000),)})
    made = plan(nodes, [task(1, spec(target="node2")), task(2, spec(target="node9"))])
    assert made.reasons[1].text == "needs 1 core; most free is 0 cores on node2"
    assert made.reasons[2].code == "unknown_node"


def test_a_backend_must_be_usable_there():
    nodes = Snapshot((node(1), node(2, backends=frozenset({"process", "docker"}))))
    assert where(plan(nodes, [task(1, spec(backend="docker"))])) == {1: 2}
    made = plan(Snapshot((node(1, unusable={"docker": "no daemon"}),)), [task(1, spec(backend="docker"))])
    assert made.reasons[1].text == "node1 cannot use backend docker now (no daemon)"
    assert plan(Snapshot((node(1, backends=frozenset()),)), [task(1)]).reasons[1].code == "backend"


@pytest.mark.parametrize(("wanted", "code"), [(Wanted.PAUSED, "paused"), (Wanted.KILLED, "ending")])
def test_what_is_not_wanted_to_run_waits(wanted, code):
    made = plan(Snapshot((node(),)), [task(1, wanted=wanted), task(2)])
    assert where(made) == {2: 1}
    assert made.reasons[1].code == code


def test_only_the_pending_are_placed():
    made = plan(Snapshot((node(),)), [task(1, status=Status.PENDING_APPROVAL), task(2, status=Status.RUNNING)])
    assert made.placements == ()
    assert {id: reason.code for id, reason in made.reasons.items()} == {1: "approval"}


def test_a_vps_that_had_a_node_stays_there_and_a_command_does_not():
    full = {1: (Reserved(task=8, generation=1, cpu_milli=4000),)}
    nodes = Snapshot((node(1), node(2)), full)
    made = plan(nodes, [task(1, spec(kind=Kind.VPS), node=1, generation=3), task(2, node=1, generation=1)])
    assert where(made) == {2: 2}
    assert made.reasons[1].text.endswith("on node1")
    assert reserved(made, 2).generation == 2


def test_no_limit_counts_as_one_core():
    made = plan(Snapshot((node(),)), [task(id, spec(cores=0)) for id in range(1, 7)])
    assert len(made.placements) == 4


def test_pinning_gives_whole_physical_cores_first():
    the_node = node(1, cell(cpus=8, threads=2))
    made = plan(
        Snapshot((the_node,)), [task(1, spec(pin=True)), task(2, spec(cores=2, pin=True)), task(3, spec(pin=True))]
    )
    assert reserved(made, 2).cpus == (2, 3)
    assert reserved(made, 1).cpus == (0,)
    assert reserved(made, 3).cpus == (1,)


def test_pinned_work_keeps_to_the_cpus_set_apart_and_other_work_to_the_rest():
    nodes = Snapshot((node(1, pinnable=frozenset({2, 3})),))
    made = plan(nodes, [task(1, spec(cores=2, pin=True)), task(2, spec(pin=True)), task(3, spec(cores=2)), task(4)])
    assert reserved(made, 1).cpus == (2, 3)
    assert reserved(made, 3).cpus == ()
    assert made.reasons[2].text == "needs 1 core of its own; most free is 0 cores on node1"
    assert made.reasons[4].text == "needs 1 core; most free is 0 cores on node1"


def test_a_numa_target_pins_there_and_counts_the_memory_of_the_cell():
    nodes = Snapshot((node(1, cell(0), cell(1, first=4, memory=8 * GIB)),))
    made = plan(nodes, [task(1, spec(cores=2, memory=6 * GIB, target="node1:1")), task(2, spec(1, 4 * GIB, "node1:1"))])
    assert (reserved(made, 1).cell, reserved(made, 1).cpus) == (1, (4, 5))
    assert made.reasons[2].text == (
        "needs 1 core of its own and 4 GiB in NUMA cell 1; most free is 2 cores, 2 GiB on node1"
    )


def test_pinned_work_spans_cells_only_when_none_is_large_enough():
    nodes = Snapshot((node(1, cell(0), cell(1, first=4)),))
    made = plan(nodes, [task(1, spec(cores=3, pin=True)), task(2, spec(cores=5, pin=True))])
    assert (reserved(made, 1).cell, reserved(made, 1).cpus) == (0, (0, 1, 2))
    assert (reserved(made, 2).cell, reserved(made, 2).cpus) == (None, (3, 4, 5, 6, 7))


def test_cards_by_index_are_those_cards():
    nodes = Snapshot((node(1, cell(devices=[gpu(0), gpu(1), gpu(2)])),))
    made = plan(nodes, [task(1, spec(target="node1::0,2")), task(2, spec(target="node1::1,2"))])
    assert set(reserved(made, 1).devices) == {"0000:00:00.0", "0000:02:00.0"}
    assert made.reasons[2].text == "needs 1 core and GPUs 1,2; most free is 3 cores, GPU 1 on node1"


def test_cards_by_count_model_and_memory_take_the_smallest_that_will_do():
    cards = [gpu(0, memory=80 * GIB), gpu(1), gpu(2, model="Tesla T4", memory=16 * GIB)]
    nodes = Snapshot((node(1, cell(devices=cards)),))
    made = plan(nodes, [task(1, spec(gpus=1, model="a100")), task(2, spec(gpus=1, vram=64 * GIB))])
    assert reserved(made, 1).devices == (cards[1].id,)
    assert reserved(made, 2).devices == (cards[0].id,)
    refused = plan(nodes, [task(3, spec(gpus=2, model="t4"))]).reasons[3].text
    assert refused == "needs 1 core and 2 GPUs of model t4; most free is 4 cores, 1 such GPU on node1"


def test_a_card_given_to_virtual_machines_is_not_for_processes():
    nodes = Snapshot((node(1, cell(devices=[gpu(0, modes=frozenset({"vfio"})), gpu(1, kind="nic")])),))
    assert plan(nodes, [task(1, spec(gpus=1))]).placements == ()


def test_a_card_and_its_part_are_not_both_given():
    whole, part = gpu(0), gpu(1, id="0000:00:00.0/MIG-1")
    nodes = Snapshot((node(1, cell(devices=[whole, part])),))
    made = plan(nodes, [task(1, spec(gpus=1)), task(2, spec(gpus=1))])
    assert len(made.placements) == 1
    assert plan(nodes, [task(3, spec(gpus=2))]).placements == ()


def test_a_node_that_holds_more_than_it_has_gets_nothing():
    nodes = Snapshot((node(1),), {1: (Reserved(task=8, generation=1, cpu_milli=9000, memory=99 * GIB),)})
    made = plan(nodes, [task(1, spec(memory=1))])
    assert made.reasons[1].text == "needs 1 core and 1 byte; most free is 0 cores, 0 bytes on node1"


@pytest.mark.parametrize(
    ("limits", "the_spec", "words"),
    [
        (Limits(tasks=2), spec(), "its owner has 2 of at most 2 tasks under way"),
        (Limits(cores=3), spec(), "needs 1 core; its owner holds 3 cores of at most 3 cores"),
        (Limits(memory=GIB), spec(memory=GIB), "needs 1 GiB; its owner holds 512 MiB of at most 1 GiB"),
        (Limits(devices=1), spec(gpus=1), "needs 1 GPU; its owner holds 1 of at most 1"),
    ],
)
def test_an_owner_at_a_limit_waits_while_others_go_on(limits, the_spec, words):
    usage = Usage(held={1: Held(tasks=2, cpu_milli=3000, memory=GIB // 2, devices=1)}, limits={1: limits})
    nodes = Snapshot((node(1, cell(devices=[gpu(0), gpu(1)])),))
    made = plan(nodes, [task(1, the_spec), task(2, the_spec, owner=2)], usage)
    assert where(made) == {2: 1}
    assert (made.reasons[1].code, made.reasons[1].text) == ("owner_limit", words)


def test_what_a_plan_places_counts_for_its_owner():
    made = plan(Snapshot((node(),)), [task(id) for id in range(1, 4)], Usage(limits={1: Limits(tasks=2)}))
    assert set(where(made)) == {1, 2}
    assert made.reasons[3].text == "its owner has 2 of at most 2 tasks under way"


TWO = (node(1), node(2, cell(0, cpus=8, devices=[gpu(0), gpu(1)]), cell(1, first=8)))


@pytest.mark.parametrize(
    ("the_spec", "words"),
    [
        (spec(cores=64), "needs 64 cores; the most is 12 cores on node2"),
        (spec(cores=5, target="node1"), "needs 5 cores; the most is 4 cores on node1"),
        (spec(memory=33 * GIB), "needs 1 core and 33 GiB; the most is 12 cores, 32 GiB on node2"),
        (spec(gpus=3), "needs 1 core and 3 GPUs; the most is 12 cores, 2 GPUs on node2"),
        (spec(gpus=1, model="h100"), "needs 1 core and 1 GPU of model h100; the most is 4 cores, 0 such GPUs on node1"),
        (spec(target="node2:7"), "node2 has no NUMA cell 7; it has 0,1"),
        (spec(target="node2::1,5"), "node2 has no GPU 5; it has 0,1"),
        (spec(target="node1::0"), "node1 has no GPU 0; it has none"),
        (spec(cores=5, target="node2:1"), "needs 5 cores of its own in NUMA cell 1; the most is 4 cores on node2"),
        (spec(backend="qemu"), "no node that could take it has backend qemu; there are process"),
        (spec(target="node2::0", gpus=2), "GPUs named by the target: 1, asked for by count: 2"),
    ],
)
def test_what_never_fits_is_told_with_numbers(the_spec, words):
    assert never_fits(Snapshot(TWO), the_spec).text == words


@pytest.mark.parametrize(
    "change",
    [
        {"status": NodeStatus.OFFLINE},
        {"draining": True},
        {"full": True},
        {"backends": frozenset(), "unusable": {"process": "x"}},
    ],
)
def test_what_fits_on_a_node_that_is_away_may_wait(change):
    assert never_fits(Snapshot((node(1, **change),)), spec(cores=4, backend="process")) is None


def test_what_is_held_now_does_not_count_for_never():
    nodes = Snapshot((node(1),), {1: (Reserved(task=8, generation=1, cpu_milli=4000),)})
    assert never_fits(nodes, spec(cores=4)) is None


def test_nothing_is_never_while_no_node_has_told_what_it_has():
    assert never_fits(Snapshot(), spec(cores=999)) is None
    silent = node(2, inventory=Inventory(), backends=frozenset(), status=NodeStatus.OFFLINE)
    assert never_fits(Snapshot((node(1), silent)), spec(cores=999)) is None
    assert never_fits(Snapshot((node(1, status=NodeStatus.REVOKED),)), spec(cores=999)) is None


def test_an_unknown_or_revoked_target_is_told():
    assert never_fits(Snapshot(TWO), spec(target="node9")).code == "unknown_node"
    assert never_fits(Snapshot((node(1, status=NodeStatus.REVOKED),)), spec(target="node1")).code == "unknown_node"


def test_pinned_work_leaves_to_shared_work_the_time_it_was_given():
    nodes = Snapshot((node(1),), {1: (Reserved(task=8, generation=1, cpu_milli=3000),)})
    made = plan(nodes, [task(1, spec(cores=2, pin=True)), task(2, spec(pin=True, time_limit=60))])
    assert where(made) == {2: 1}
    assert made.reasons[1].text == "needs 2 cores of its own; most free is 0 cores on node1"


def test_pinned_work_is_bound_to_a_cell_only_where_its_memory_is():
    nodes = Snapshot((node(1, cell(0, memory=4 * GIB), cell(1, first=4, memory=4 * GIB)),))
    made = plan(nodes, [task(1, spec(memory=6 * GIB, pin=True)), task(2, spec(memory=2 * GIB, pin=True))])
    assert reserved(made, 1).cell is None
    assert reserved(made, 2).cell == 0
