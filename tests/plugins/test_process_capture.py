"""A captured stream against a model that keeps everything, with disks that fill up on the way."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kohakuriver_process.shepherd import capture as module
from kohakuriver_process.shepherd.capture import SMALL, Capture
from kohakuriver_process.shepherd.frames import BadFrame, Unpacker, pack

HEAD, TAIL = 64 * 1024, 100_000


SOURCE = b"".join(b"%08d" % number for number in range(110_000))


def pieces(sizes: list[int]) -> list[bytes]:
    found, at = [], 0
    for size in sizes:
        found.append(SOURCE[at : at + size])
        at += size
    return found


def kept(capture: Capture, offset: int = 0) -> list[tuple[int, bytes]]:
    found = []
    while True:
        at, data = capture.read(offset, 10_000)
        if not data:
            return found
        found.append((at, data))
        offset = at + len(data)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 70_000), max_size=12), st.integers(0, 300_000))
def test_head_and_tail_are_exact(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], begin: int) -> None:
    directory = tmp_path_factory.mktemp("capture")
    capture = Capture(str(directory), "stdout", head=HEAD, tail=TAIL)
    for piece in pieces(sizes):
        capture.add(piece)
    whole = b"".join(pieces(sizes))
    total = len(whole)
    floor = max(HEAD, total - TAIL)
    expected = {offset for offset in range(begin, total) if offset < HEAD or offset >= floor}
    seen = set()
    for at, data in kept(capture, begin):
        assert data == whole[at : at + len(data)]
        seen.update(range(at, at + len(data)))
    assert seen == expected
    assert (capture.total, capture.dropped) == (total, max(0, floor - HEAD) if total > HEAD else 0)
    assert bool(list(directory.iterdir())) == (total > SMALL)
    capture.remove()
    assert list(directory.iterdir()) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 70_000), st.booleans()), max_size=12))
def test_a_full_disk_loses_what_it_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    capture = Capture(str(tmp_path_factory.mktemp("capture")), "stdout", head=HEAD, tail=TAIL)
    data = pieces([size for size, _ in steps])
    whole = b"".join(data)
    with pytest.MonkeyPatch.context() as patch:
        for piece, (_, full) in zip(data, steps, strict=True):
            patch.setattr(module.os, "pwrite", refuse if full else PWRITE)
            capture.add(piece)
    found = kept(capture)
    for at, bytes_ in found:
        assert bytes_ == whole[at : at + len(bytes_)]
    assert capture.total == len(whole)
    assert sum(len(bytes_) for _, bytes_ in found) + capture.dropped == len(whole)


PWRITE = os.pwrite


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (tmp_path / "stdout.head").symlink_to(target)
    capture = Capture(str(tmp_path), "stdout", head=HEAD, tail=TAIL)
    capture.add(b"x" * (SMALL + 1))
    assert target.read_bytes() == b"precious"
    assert capture.dropped == SMALL + 1


@given(st.lists(st.tuples(st.dictionaries(st.text(), st.integers()), st.binary())), st.integers(1, 50))
def test_frames_come_whole_however_they_are_cut(messages, step: int) -> None:
    data = b"".join(pack(message, blob) for message, blob in messages)
    unpacker = Unpacker()
    found = [each for at in range(0, len(data), step) for each in unpacker.feed(data[at : at + step])]
    assert found == messages


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0\0\0\1\0\0\0\0x", b"\0\0\0\2\0\0\0\x0012", b"\0\0\0\1\0\0\0\x001"])
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        Unpacker().feed(data)
