"""Frames survive any cut of the bytes, and what is no frame is said to be none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohakuriver.errors import Malformed
from kohakuriver.wire import frames
from kohakuriver.wire.frames import Kind, Reader

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=8)


@given(FRAMES, st.lists(st.integers(1, 50)))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(sent, cuts):
    data = b"".join(frames.frame(kind, payload) for kind, payload in sent)
    reader, found = Reader(), []
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[:cut])
        data = data[cut:]
    found += reader.feed(data)
    assert found == sent
    assert not reader.midway


def test_many_bytes_become_several_frames():
    data = bytes(range(256)) * 2049
    parts = [payload for part in frames.frames(Kind.DATA, data) for _, payload in Reader().feed(part)]
    assert b"".join(parts) == data
    assert max(map(len, parts)) == frames.MOST_PAYLOAD
    assert list(frames.frames(Kind.DATA, b"")) == []


def test_a_frame_that_is_not_whole_is_told():
    reader = Reader()
    assert list(reader.feed(frames.frame(Kind.DATA, b"abc")[:-1])) == []
    assert reader.midway


@pytest.mark.parametrize("data", [b"\x09\0\0\0\0", b"\0\xff\xff\xff\xff", frames.HEAD.pack(0, frames.MOST_PAYLOAD + 1)])
def test_what_is_no_frame_is_malformed(data):
    with pytest.raises(Malformed):
        list(Reader().feed(data))


def test_a_payload_too_long_is_not_sent():
    with pytest.raises(ValueError, match="at most"):
        frames.frame(Kind.DATA, bytes(frames.MOST_PAYLOAD + 1))


def test_a_result_alone_may_be_longer():
    whole = frames.frame(Kind.RESULT, bytes(frames.MOST_RESULT))
    assert [(kind, len(payload)) for kind, payload in Reader().feed(whole)] == [(Kind.RESULT, frames.MOST_RESULT)]
    with pytest.raises(ValueError, match="at most"):
        frames.frame(Kind.RESULT, bytes(frames.MOST_RESULT + 1))


@pytest.mark.parametrize(
    ("asked", "told"), [((80, 24), (80, 24)), ((0, -3), (1, 1)), ((10**9, 70_000), (65535, 65535))]
)
def test_the_size_of_a_window_is_told_within_bounds(asked, told):
    ((kind, payload),) = Reader().feed(frames.window(*asked))
    assert (kind, frames.window_of(payload)) == (Kind.WINDOW, told)


@pytest.mark.parametrize("payload", [b"", b"abc", b"12345"])
def test_another_size_of_a_window_is_malformed(payload):
    with pytest.raises(Malformed, match="window"):
        frames.window_of(payload)
