"""Attempt ids: one spelling for each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain.attempts import attempt_id, attempt_or_none, parse_attempt


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9 - 1))
def test_an_attempt_id_reads_back(task, generation):
    assert parse_attempt(attempt_id(task, generation)) == (task, generation)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text("0123456789.٣²-", max_size=35)))
def test_only_the_one_spelling_of_an_attempt_is_read(text):
    try:
        task, generation = parse_attempt(text)
    except ValueError:
        return
    assert attempt_id(task, generation) == text


@pytest.mark.parametrize("text", ["7", "7.", ".1", "7.01", "07.1", "7.1.1", "-7.1", "7.٣", "9" * 9000 + ".1"])
def test_other_attempts_are_refused(text):
    with pytest.raises(ValueError, match="not an attempt"):
        parse_attempt(text)
    assert attempt_or_none(text) is None
