"""Cards of a node: several models, those near cores and memory, cordoned ones, and who gets which."""

from datetime import UTC, datetime

import pytest

from kohakuriver.domain.never import never_fits
from kohakuriver.domain.nodes import Cordon, Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.units import GIB

from .test_placement import cell, gpu, node, reserved, spec, task

CORDON = Cordon(reason="it fell off the bus", since=datetime(2025, 1, 1, tzinfo=UTC), by="the node")


def two_cells(first=(), second=(), **more):
    """Two cells of four cores and 16 GiB each, with cards of these indices."""
    cells = [
        cell(0, devices=[gpu(index, numa=0) for index in first]),
        cell(1, first=4, devices=[gpu(index, numa=1) for index in second]),
    ]
    return Snapshot((node(1, *cells),), **more)


def indices(one):
    return tuple(int(device[5:7], 16) for device in one.devices)


def test_pinned_work_gets_cores_and_memory_of_the_cell_with_its_card():
    made = plan(two_cells(second=[5]), [task(1, spec(cores=2, memory=GIB, gpus=1, pin=True))])
    one = reserved(made, 1)
    assert (one.cell, one.cpus, indices(one)) == (1, (4, 5), (5,))


def test_shared_work_with_a_card_counts_in_its_cell_where_that_has_the_memory():
    made = plan(two_cells(second=[5, 6]), [task(1, spec(memory=12 * GIB, gpus=1)), task(2, spec(1, 12 * GIB, gpus=1))])
    assert (reserved(made, 1).cell, reserved(made, 2).cell) == (1, None)
    assert (reserved(made, 1).cpus, reserved(made, 2).cpus) == ((), ())


def test_several_cards_come_from_one_cell_where_one_has_them():
    made = plan(two_cells(first=[0], second=[5, 6]), [task(1, spec(gpus=2)), task(2, spec(gpus=1))])
    assert indices(reserved(made, 1)) == (5, 6)
    assert indices(reserved(made, 2)) == (0,)
    apart = plan(two_cells(first=[0], second=[5]), [task(1, spec(gpus=2, pin=True))])
    assert indices(reserved(apart, 1)) == (0, 5)


def test_a_cell_with_cards_and_cores_goes_before_one_that_has_only_the_cards():
    held = {1: (Reserved(task=9, generation=1, cell=0, cpu_milli=4000, cpus=(0, 1, 2, 3)),)}
    made = plan(two_cells(first=[0], second=[5], reserved=held), [task(1, spec(cores=2, gpus=1, pin=True))])
    assert (reserved(made, 1).cell, indices(reserved(made, 1))) == (1, (5,))


def test_where_no_cell_has_both_the_need_is_met_from_the_whole_machine():
    held = {1: (Reserved(task=9, generation=1, cell=1, cpu_milli=4000, cpus=(4, 5, 6, 7)),)}
    made = plan(two_cells(second=[5], reserved=held), [task(1, spec(cores=2, gpus=1, pin=True))])
    assert (reserved(made, 1).cell, reserved(made, 1).cpus, indices(reserved(made, 1))) == (0, (0, 1), (5,))


def test_a_numa_target_is_a_must_for_cores_and_a_wish_for_cards():
    made = plan(two_cells(first=[0], second=[5]), [task(1, spec(1, GIB, "node1:1", gpus=1))])
    assert (reserved(made, 1).cell, indices(reserved(made, 1))) == (1, (5,))
    away = plan(two_cells(first=[0]), [task(1, spec(1, GIB, "node1:1", gpus=1))])
    assert (reserved(away, 1).cell, indices(reserved(away, 1))) == (1, (0,))


def test_several_models_in_one_node_are_told_apart():
    cards = [gpu(0, model="RTX A6000", memory=48 * GIB), gpu(1, model="Tesla T4", memory=16 * GIB)]
    nodes = Snapshot((node(1, cell(devices=cards)),))
    queue = [task(1, spec(gpus=1, model="A6000")), task(2, spec(gpus=1, vram=24 * GIB)), task(3, spec(gpus=1))]
    made = plan(nodes, queue)
    assert (indices(reserved(made, 1)), indices(reserved(made, 3))) == ((0,), (1,))
    assert made.reasons[2].text == "needs 1 core and 1 GPU with 24 GiB each; most free is 2 cores, 0 such GPUs on node1"


def cordoned(*ids, cards=(0, 1)):
    the_node = node(1, cell(devices=[gpu(index) for index in cards]), cordons=dict.fromkeys(ids, CORDON))
    return Snapshot((the_node,))


def test_a_cordoned_card_gets_nothing_and_is_told_of():
    made = plan(cordoned("0000:00:00.0"), [task(1, spec(gpus=1)), task(2, spec(gpus=1))])
    assert indices(reserved(made, 1)) == (1,)
    assert (
        made.reasons[2].text
        == f"needs 1 core and 1 GPU; most free is 3 cores, 0 GPUs on node1; 1 card is cordoned: {CORDON.reason}"
    )
    named = plan(cordoned("0000:00:00.0"), [task(1, spec(target="node1::0"))]).reasons[1]
    assert (
        named.text
        == f"needs 1 core and GPU 0; most free is 4 cores, none of these GPUs on node1; 1 card is cordoned: {CORDON.reason}"
    )


def test_the_parts_of_a_cordoned_card_are_cordoned_with_it():
    part = gpu(0, id="0000:00:00.0/MIG-1")
    nodes = Snapshot((node(1, cell(devices=[part]), cordons={"0000:00:00.0": CORDON}),))
    assert plan(nodes, [task(1, spec(gpus=1))]).placements == ()


@pytest.mark.parametrize("the_spec", [spec(gpus=2), spec(target="node1::0")])
def test_a_cordon_may_be_lifted_so_nothing_is_never(the_spec):
    assert never_fits(cordoned("0000:00:00.0"), the_spec) is None
