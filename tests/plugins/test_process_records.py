"""What a shepherd writes down of a body, by which it is found when the shepherd is gone, whatever the disk takes."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from kohakuriver_process import lost
from kohakuriver_process.shepherd.herd import Herd
from kohakuriver_process.shepherd.loop import Loop

WRITE = os.write


@pytest.fixture
def herd(tmp_path: Path) -> Herd:
    """With one body that was made for attempt 7.1."""
    made = Herd(Loop(), str(tmp_path), "shepherd-1", "boot-1")
    order = {"op": "create", "instance": "7.1", "directory": str(tmp_path / "7.1"), "attempt": "7.1"}
    made.orders(order, lambda _story, _blob: None)
    return made


def write_again(herd: Herd, tmp_path: Path, pid: int) -> None:
    body = herd.bodies["7.1"]
    body.pid = pid
    herd._write_record(body, str(tmp_path / "bodies" / "7.1"))


def test_a_write_that_takes_a_part_at_a_time_leaves_nothing_out(
    herd: Herd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: WRITE(fd, data[:10]))
    write_again(herd, tmp_path, 4711)
    found = lost.load(tmp_path, "7.1")
    assert found is not None
    assert (found.attempt, found.pid) == ("7.1", 4711)


def test_a_full_disk_leaves_what_was_written_down_before(
    herd: Herd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        if os.lseek(fd, 0, os.SEEK_CUR):
            raise OSError(errno.ENOSPC, "no space left on device")
        return WRITE(fd, data[:10])

    monkeypatch.setattr(os, "write", full)
    with contextlib.suppress(OSError):
        write_again(herd, tmp_path, 4711)
    (found,) = lost.records(tmp_path)
    assert (found.attempt, found.pid) == ("7.1", 0)
