"""The target grammar, both ways, and what is not in it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain.targets import Target, format_target, parse_node_name, parse_target
from kohakuriver.errors import Invalid

QUICK = settings(max_examples=200, deadline=None)
NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,9}){0,2}\Z")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("node1", Target(node="node1")),
        ("Node1", Target(node="node1")),
        ("node1:0", Target(node="node1", numa=0)),
        ("node1::0,1", Target(node="node1", devices=(0, 1))),
        ("gpu.lab.example:1::3", Target(node="gpu.lab.example", numa=1, devices=(3,))),
    ],
)
def test_targets_are_read(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n:",
        "n::",
        "n::a",
        "n:-1",
        "::0",
        ":0",
        "n:0:1",
        "n::0,",
        "n::0,0",
        "n::0::1",
        "n:٣",
        "n::²",
        "n:5000",
        "-n",
        "n-",
        "a_b",
        "n/..",
        "n\x00",
        "\u212a1",
        "n" * 254,
        "n::" + ",".join(map(str, range(65))),
        "n" * 100000,
    ],
)
def test_other_targets_are_refused_in_a_line_that_fits_a_terminal(text):
    with pytest.raises(Invalid) as caught:
        parse_target(text)
    assert caught.value.field == "target"
    assert caught.value.limit
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


@QUICK
@given(
    node=NAMES,
    numa=st.none() | st.integers(0, 4095),
    devices=st.lists(st.integers(0, 4095), unique=True, max_size=8).map(tuple),
)
def test_a_written_target_reads_back(node, numa, devices):
    target = Target(node=node, numa=numa, devices=devices)
    assert parse_target(format_target(target)) == target


@QUICK
@given(st.one_of(st.text(max_size=40), st.text("nN019:,-. \u212aß٣", max_size=20)))
def test_hostile_targets_give_a_target_that_reads_back_or_invalid(text):
    try:
        target = parse_target(text)
    except Invalid:
        return
    assert parse_target(format_target(target)) == target
    assert target.node.isascii()


def test_a_node_name_is_told_apart_from_a_target():
    with pytest.raises(Invalid) as caught:
        parse_node_name("a:b", field="name")
    assert caught.value.field == "name"
    assert "DNS name" in caught.value.limit
