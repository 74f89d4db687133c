"""Attempt ids, and the sets of statuses."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain.tasks import FINAL, HOLDING, OPEN, Kind, Status, Task, TaskSpec, attempt_id, parse_attempt


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


def test_every_status_is_open_or_final_and_never_both():
    assert set(Status) == OPEN | FINAL
    assert not OPEN & FINAL
    assert HOLDING < OPEN


def test_a_command_has_a_body_per_attempt_and_a_vps_keeps_one():
    def task(kind):
        return Task(
            id=5,
            batch=5,
            owner=1,
            spec=TaskSpec(kind=kind),
            status=Status.RUNNING,
            generation=3,
            submitted=datetime(2025, 1, 1, tzinfo=UTC),
        )

    assert task(Kind.COMMAND).instance == "5.3"
    assert task(Kind.VPS).instance == "5"
