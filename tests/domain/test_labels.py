"""Labels of nodes and what tasks ask of them."""

import pytest

from kohakuriver.domain.labels import check_labels, missing, parse_constraint, parse_constraints, sound_labels
from kohakuriver.domain.never import never_fits
from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.placement import plan
from kohakuriver.errors import Invalid

from .test_placement import node, spec, task, where


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ("room=b12", {"room": "b12"}, True),
        ("room=b12", {"room": "b11"}, False),
        ("room=b12", {}, False),
        ("room!=b12", {"room": "b11"}, True),
        ("room!=b12", {}, True),
        ("room!=b12", {"room": "b12"}, False),
        ("room", {"room": ""}, True),
        ("room", {}, False),
        ("room=", {"room": ""}, True),
        ("a.b/c_d-e=Tesla.T4+x:1", {"a.b/c_d-e": "Tesla.T4+x:1"}, True),
    ],
)
def test_a_constraint_says_what_a_label_must_be(text, labels, holds):
    constraint = parse_constraint(text)
    assert constraint.holds(labels) is holds
    assert parse_constraint(str(constraint)) == constraint
    assert (missing([constraint], labels) is None) is holds


@pytest.mark.parametrize(
    "text", ["", "=x", "!=x", "Room=x", "room==x", "room=a b", "-room", "room\n=x", "x" * 64, "a!b"]
)
def test_what_no_label_could_be_is_refused(text):
    with pytest.raises(Invalid) as told:
        parse_constraint(text, field="--constraint")
    assert told.value.field == "--constraint"


def test_the_same_wishes_in_another_order_are_the_same():
    assert parse_constraints(["b", "a=1", "b"]) == parse_constraints(["a=1", "b"])
    with pytest.raises(Invalid, match="too many"):
        parse_constraints([f"k{n}" for n in range(33)])


def test_labels_that_no_constraint_could_name_are_refused_or_left_out():
    check_labels({"room": "b12", "empty": ""})
    check_labels({f"k{n}": "" for n in range(64)})
    for labels in ({"Room": "x"}, {"room": "a b"}, {f"k{n}": "" for n in range(65)}):
        with pytest.raises(Invalid):
            check_labels(labels)
    assert sound_labels({"Room": "x", "room": "b12", "bad": "\n"}) == {"room": "b12"}
    assert len(sound_labels({f"k{n}": "" for n in range(99)})) == 64


NODES = Snapshot(
    (
        node(1, labels={"room": "b11", "fast": ""}),
        node(2, labels={"room": "b12"}),
        node(3, labels={"room": "b13"}),
        node(4),
    )
)


def asking(*texts, **more):
    return spec(constraints=parse_constraints(texts), **more)


@pytest.mark.parametrize(("texts", "nodes"), [(["room=b12"], {2}), (["room!=b11", "room"], {2, 3}), (["fast"], {1})])
def test_a_task_goes_where_its_constraints_hold(texts, nodes):
    assert set(where(plan(NODES, [task(1, asking(*texts))])).values()) <= nodes
    made = plan(NODES, [task(id, asking(*texts, cores=4)) for id in range(1, 6)])
    assert set(where(made).values()) == nodes
    assert never_fits(NODES, asking(*texts)) is None


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["room=b99"], "none of 4 nodes has room=b99; there is b11, b12, b13"),
        (["slow"], "none of 4 nodes has slow; none has a label slow"),
        (["fast", "room=b12"], "none of 4 nodes has all of fast, room=b12; at most 1 of 2 hold on one node"),
    ],
)
def test_what_no_node_has_is_told_with_what_there_is(texts, words):
    assert never_fits(NODES, asking(*texts)).text == words
    reason = plan(NODES, [task(1, asking(*texts))]).reasons[1]
    assert (reason.code, reason.text) == ("labels", words)


def test_a_target_must_hold_them_too():
    assert (
        never_fits(NODES, asking("fast", target="node2")).text
        == "the only node does not have fast; none has a label fast"
    )
    assert where(plan(NODES, [task(1, asking("fast", target="node1"))])) == {1: 1}


def test_nodes_that_are_busy_or_away_are_told_apart_from_those_without_the_label():
    full = plan(NODES, [task(1, asking("fast", cores=4)), task(2, asking("fast", cores=2))])
    assert full.reasons[2].text == "needs 2 cores; most free is 0 cores on node1"
