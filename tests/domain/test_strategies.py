"""Which of the nodes that fit gets a task: each strategy by what it promises."""

import pytest

from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.rooms import Room
from kohakuriver.domain.strategies import STRATEGIES, why_not
from kohakuriver.domain.units import GIB

from .test_placement import cell, gpu, node, spec, task, where


def placed(strategy, nodes, queue):
    return where(plan(nodes, queue, strategy=STRATEGIES[strategy]))


def held(node, cores):
    return {node: (Reserved(task=90 + node, generation=1, cpu_milli=cores * 1000),)}


TASKS = [task(id) for id in range(1, 5)]
THREE = (node(1), node(2), node(3))


@pytest.mark.parametrize(
    ("strategy", "goes"),
    [
        ("pack", {1: 2, 2: 2, 3: 2, 4: 1}),
        ("spread", {1: 1, 2: 3, 3: 1, 4: 2}),
        ("first-fit", {1: 1, 2: 1, 3: 1, 4: 1}),
        ("round-robin", {1: 1, 2: 2, 3: 3, 4: 1}),
    ],
)
def test_four_small_tasks_go_where_the_strategy_says(strategy, goes):
    assert placed(strategy, Snapshot(THREE, held(2, 1)), TASKS) == goes


def test_spread_compares_shares_of_nodes_of_different_sizes():
    nodes = Snapshot((node(1, cell(cpus=4)), node(2, cell(cpus=16))), {**held(1, 1), **held(2, 3)})
    assert placed("spread", nodes, [task(1)]) == {1: 2}


@pytest.mark.parametrize("strategy", ["pack", "spread"])
def test_nodes_with_cards_are_kept_for_those_who_ask_for_them(strategy):
    nodes = Snapshot((node(1, cell(devices=[gpu(0)])), node(2)), held(2, 2))
    assert placed(strategy, nodes, [task(1), task(2, spec(gpus=1))]) == {1: 2, 2: 1}


@pytest.mark.parametrize("strategy", ["pack", "spread"])
def test_a_runner_up_with_more_free_cards_is_told_so(strategy):
    best, other = Room(node(1), (), 0), Room(node(2, cell(devices=[gpu(0), gpu(1)])), (), 1)
    assert why_not(STRATEGIES[strategy], best, other) == "node1 has fewer free cards: 0, here 2"


def test_a_runner_up_that_is_as_full_is_told_so():
    best, other = (Room(node(id), (), id) for id in (1, 2))
    assert why_not(STRATEGIES["pack"], best, other) == "node1 is as full and comes first"


def test_round_robin_goes_on_where_the_last_plan_stopped():
    assert placed("round-robin", Snapshot(THREE, turns={1: 7, 2: 5, 3: 6}), TASKS) == {1: 2, 2: 3, 3: 1, 4: 2}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_places_only_where_it_fits(strategy):
    nodes = Snapshot((node(1, cell(memory=GIB)), node(2)), held(2, 3))
    made = placed(strategy, nodes, [task(1, spec(memory=2 * GIB)), task(2, spec(2)), task(3, spec(3))])
    assert made == {1: 2, 2: 1}
