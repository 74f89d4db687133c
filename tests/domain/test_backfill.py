"""Who may pass a task that waits: room is kept by time limits, and its start is never moved by whoever passes."""

from datetime import timedelta
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohakuriver.domain.backfill import HEADS
from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.domain.resources import Reserved
from kohakuriver.domain.tasks import Kind

from .test_placement import NOW, cell, gpu, node, reserved, spec, task, where
from .test_placement_properties import SLOW, SPECS, clusters

#: a node of four cores; task 90 has three of them for 100 s more, task 91 has them without a limit
LIMITED = Snapshot((node(1),), {1: (Reserved(task=90, generation=1, cpu_milli=3000),)}, ends={90: 100.0})
ENDLESS = Snapshot((node(1),), {1: (Reserved(task=91, generation=1, cpu_milli=3000),)})


def limited(cores=1, seconds=10, **more):
    return spec(cores, time_limit=seconds, grace=0, **more)


def test_a_short_task_passes_a_large_one_that_could_not_start_before_its_end():
    made = plan(LIMITED, [task(1, spec(4)), task(2, limited(seconds=100))])
    assert where(made) == {2: 1}
    assert made.starts() == {1: 100.0}


@pytest.mark.parametrize("small", [limited(seconds=101), spec(1)])
def test_a_task_that_would_still_run_by_then_does_not_pass(small):
    made = plan(LIMITED, [task(1, spec(4)), task(2, small)])
    assert made.placements == ()
    assert made.reasons[2].code == "kept"
    assert made.reasons[2].text.startswith("would fit on node1, where it might hold up task 1, which comes before it")


def test_the_time_after_a_time_limit_counts():
    late = spec(1, time_limit=95, grace=6)
    assert plan(LIMITED, [task(1, spec(4)), task(2, late)]).placements == ()


def test_what_the_waiting_one_does_not_need_is_free_for_everybody():
    made = plan(LIMITED, [task(1, spec(3)), task(2, spec(1)), task(3, spec(1))])
    assert where(made) == {2: 1}
    assert made.starts() == {1: 100.0}


def test_beside_a_task_without_a_limit_only_what_has_one_passes():
    queue = [task(1, spec(2)), task(2, spec(1)), task(3, limited(seconds=10**6))]
    made = plan(ENDLESS, queue)
    assert where(made) == {3: 1}
    assert made.starts() == {}
    assert plan(ENDLESS, queue[:2]).reasons[2].code == "kept"


def test_what_is_of_no_use_to_the_waiting_one_may_be_taken_for_any_time():
    held = (Reserved(task=91, generation=1, cpu_milli=1000, devices=(gpu(0).id,)),)
    nodes = Snapshot((node(1, cell(devices=[gpu(0)])),), {1: held})
    made = plan(nodes, [task(1, spec(2, gpus=1)), task(2, spec(1)), task(3, spec(1))])
    assert where(made) == {2: 1}


def test_passing_goes_to_another_node_where_nothing_is_kept():
    nodes = Snapshot((node(1), node(2)), {1: LIMITED.reserved[1], 2: LIMITED.reserved[1]}, ends={90: 100.0})
    made = plan(nodes, [task(1, spec(4)), task(2, spec(1)), task(3, spec(1))])
    assert where(made) == {2: 2}


def test_the_second_that_waits_starts_after_the_first_and_is_protected_as_well():
    made = plan(LIMITED, [task(1, limited(4, 50)), task(2, limited(4, 60)), task(3, limited(1, 100))])
    assert made.starts() == {1: 100.0, 2: 150.0}
    assert where(made) == {3: 1}


def test_a_waiting_one_that_fits_before_a_larger_one_is_booked_before_it():
    held = (
        Reserved(task=90, generation=1, cpu_milli=2000),
        Reserved(task=92, generation=1, cpu_milli=2000),
    )
    nodes = Snapshot((node(1),), {1: held}, ends={90: 100.0, 92: 10.0})
    made = plan(nodes, [task(1, limited(4, 50)), task(2, limited(2, 90)), task(3, limited(2, 91))])
    assert made.starts() == {1: 100.0, 2: 10.0, 3: 150.0}


def test_of_many_kinds_that_wait_the_first_few_are_protected():
    blocked = [task(id, spec(4, priority=100 - id)) for id in range(1, HEADS + 3)]
    made = plan(LIMITED, [*blocked, task(99, limited(seconds=5, priority=-5))])
    assert len(made.starts()) == 1
    assert where(made) == {99: 1}


def test_a_task_that_waits_for_its_own_limit_or_for_later_keeps_nothing():
    later = task(1, spec(1), ready=NOW + timedelta(seconds=30))
    made = plan(Snapshot((node(1),), at=NOW), [later, task(2, spec(4))])
    assert where(made) == {2: 1}
    assert (made.reasons[1].code, made.reasons[1].text) == (
        "not_yet",
        "waits until 2025-01-01 00:00:30 UTC to be tried again",
    )
    assert where(plan(Snapshot((node(1),), at=NOW + timedelta(seconds=30)), [later])) == {1: 1}


def test_what_should_have_ended_already_may_do_so_at_any_moment():
    overdue = Snapshot(LIMITED.nodes, LIMITED.reserved, ends={90: -50.0})
    made = plan(overdue, [task(1, spec(4)), task(2, limited(seconds=5))])
    assert made.placements == ()
    assert 0 < made.starts()[1] <= 1


def test_cards_are_kept_as_well():
    held = (Reserved(task=90, generation=1, cpu_milli=1000, devices=(gpu(0).id,)),)
    nodes = Snapshot((node(1, cell(cpus=8, devices=[gpu(0), gpu(1)])),), {1: held}, ends={90: 100.0})
    made = plan(nodes, [task(1, spec(gpus=2)), task(2, spec(gpus=1)), task(3, limited(gpus=1)), task(4, spec())])
    assert where(made) == {3: 1, 4: 1}
    assert reserved(made, 3).devices == (gpu(1).id,)
    assert made.starts() == {1: 100.0}


ENDS = st.dictionaries(st.integers(900, 902), st.sampled_from([5.0, 40.0, 400.0]))


def start_of(made, task):
    """When it starts at the latest by the plan; infinite when that is not known."""
    at = {placement.task: 0.0 for placement in made.placements} | dict(made.starts())
    return at.get(task.id, inf)


@SLOW
@given(clusters(), st.lists(SPECS, min_size=2, max_size=8), ENDS)
def test_who_passes_never_moves_the_start_of_the_first_that_waits(snapshot, specs, ends):
    snapshot = Snapshot(snapshot.nodes, snapshot.reserved, ends=ends)
    queue = [task(id, one, node=None) for id, one in enumerate(specs, 1)]
    made = plan(snapshot, queue)
    placed = {placement.task: placement for placement in made.placements}
    ranked = sorted(queue, key=lambda one: (-one.spec.priority, one.id))
    # a task that waits in vain for a node or an owner's leave keeps nothing
    head = next((one for one in ranked if one.id not in placed and made.reasons[one.id].code == "resources"), None)
    if head is None:
        return
    before = ranked[: ranked.index(head)]
    last = task(99, limited(1, 1, priority=-9))
    alone = plan(snapshot, [*before, head, last])
    # what was placed runs now, for as long as its limit says; then only the head is left
    after = dict(snapshot.reserved)
    lasts = dict(ends)
    for id, placement in placed.items():
        after[placement.node] = (*after.get(placement.node, ()), placement.reserved)
        limit = next(one for one in queue if one.id == id).spec
        if limit.time_limit is not None:
            lasts[id] = float(limit.time_limit + limit.grace)
    earlier = [one for one in before if one.id not in placed]
    then = plan(Snapshot(snapshot.nodes, after, ends=lasts), [*earlier, head, last])
    if head.spec.kind is not Kind.VPS and not earlier:
        assert start_of(then, head) <= start_of(alone, head)
