"""Spans: what one word stands for, and every combination of several."""

import pytest

from kohakuriver.domain.spans import combinations, values_of
from kohakuriver.errors import Invalid


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("plain", ["plain"]),
        ("span:{0..3}", [0, 1, 2, 3]),
        ("span:{-1..1}", [-1, 0, 1]),
        ("span:{7..7}", [7]),
        ("span:[a, b ,c d]", ["a", "b", "c d"]),
        ("span:[x,]", ["x", ""]),
        ("span:[]", []),
        ("span:[ ]", []),
        ("span:text", ["text"]),
        ("span:", [""]),
        ("a span:{0..3}", ["a span:{0..3}"]),
    ],
)
def test_a_word_stands_for_its_values(word, values):
    assert list(values_of(word)) == values


@pytest.mark.parametrize(
    ("word", "says"), [("span:{3..1}", "backwards"), ("span:{a..b}", "no range"), ("span:{1,2}", "no range")]
)
def test_a_range_that_is_none_is_told(word, says):
    with pytest.raises(Invalid, match=says) as caught:
        list(combinations(["x", word]))
    assert (caught.value.field, caught.value.value) == ("command[1]", word)
    assert "span:{0..3}" in caught.value.limit


def test_several_mean_every_combination_the_last_fastest():
    found = list(combinations(["run", "span:{1..2}", "-x", "span:[a,b]"]))
    assert found == [("run", one, "-x", two) for one in ("1", "2") for two in ("a", "b")]


def test_an_empty_list_means_nothing():
    assert list(combinations(["run", "span:[]", "span:{1..9}"])) == []


def test_so_many_as_may_be_are_made_and_not_one_more():
    assert len(list(combinations(["span:{1..10}", "span:{1..10}"], most=100))) == 100
    with pytest.raises(Invalid, match="too many"):
        combinations(["span:{1..10}", "span:{1..10}"], most=99)


def test_how_many_is_known_before_any_is_made():
    with pytest.raises(Invalid, match="too many") as caught:
        combinations(["run", *["span:{0..99999999}"] * 9], most=5000)
    assert (caught.value.value, caught.value.limit) == (str(10**72), "at most 5000")
