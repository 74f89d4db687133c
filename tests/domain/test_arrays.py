"""Arrays: which indices a text means, and what is wrong with one that means none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohakuriver.domain.arrays import MOST_ELEMENTS, ArrayWish, element_name, elements, parse_array
from kohakuriver.errors import Invalid


@pytest.mark.parametrize(
    ("text", "indices", "most"),
    [
        ("0-15%4", tuple(range(16)), 4),
        ("7", (7,), None),
        ("1,3,8-12:2", (1, 3, 8, 10, 12), None),
        ("5,1", (1, 5), None),
        ("0-20:50%1", (0,), 1),
        ("0-999999:999999", (0, 999999), None),
    ],
)
def test_indices_are_lists_ranges_and_steps(text, indices, most):
    assert parse_array(text) == ArrayWish(indices=indices, most=most)


@pytest.mark.parametrize(
    ("text", "says", "limit"),
    [
        ("", "no index", "0-15"),
        ("a", "'a' is no index", "0-15"),
        ("1,,2", "'' is no index", "0-15"),
        ("-1", "no index", "0-15"),
        ("1-3:0", "no step", "1 or more"),
        ("5-2", "runs backwards", "0-15"),
        ("1,1", "index 1 is given twice", "once"),
        ("0-1000000", "too high", "999999"),
        ("0-5000", "too many", str(MOST_ELEMENTS)),
        ("0-3%0", "how many", "from 1"),
        ("0-3%", "how many", "from 1"),
        ("0-3%4%5", "how many", "from 1"),
        ("٣", "no index", "0-15"),
        ("1," * 600, "too long", "1000"),
    ],
)
def test_what_is_no_array_is_told_with_field_value_and_limit(text, says, limit):
    with pytest.raises(Invalid) as caught:
        parse_array(text, field="--array")
    assert says in caught.value.message
    assert (caught.value.field, limit in caught.value.limit) == ("--array", True)
    assert caught.value.value is not None


def test_an_element_knows_the_whole():
    third = elements(parse_array("2-8:3%2"))[2]
    assert (third.index, third.least, third.greatest, third.count, third.most) == (8, 2, 8, 3, 2)
    assert element_name("sweep", third) == "sweep[8]"


@given(st.sets(st.integers(0, 999_999), min_size=1, max_size=50))
def test_every_list_is_read_back(indices):
    assert parse_array(",".join(map(str, indices))).indices == tuple(sorted(indices))
