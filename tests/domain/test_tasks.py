"""The sets of statuses."""

from datetime import UTC, datetime

from kohakuriver.domain.tasks import FINAL, HOLDING, OPEN, Kind, Status, Task, TaskSpec


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
