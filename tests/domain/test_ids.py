"""Ids rise whatever the clock does; names hold nothing that deceives."""

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain import ids
from kohakuriver.errors import Invalid

QUICK = settings(max_examples=150, deadline=None)
NOW = ids.EPOCH_MS + 1_000_000


@QUICK
@given(
    clock=st.lists(st.integers(-(2**42), ids.EPOCH_MS + 2**40), max_size=40),
    nodes=st.lists(st.integers(0, ids.HIGHEST_NODE), min_size=1, max_size=3),
)
def test_every_id_is_greater_than_the_last_whatever_the_clock_says(clock, nodes):
    last = 0
    for turn, now in enumerate(clock):
        new = ids.next_id(last, now, nodes[turn % len(nodes)])
        assert last < new <= ids.HIGHEST_ID
        assert (new >> ids.SEQUENCE_BITS) & ids.HIGHEST_NODE == nodes[turn % len(nodes)]
        last = new


def test_a_millisecond_that_is_used_up_borrows_from_the_next():
    last, seen = 0, set()
    for _ in range(2 * (ids.HIGHEST_SEQUENCE + 1) + 1):
        last = ids.next_id(last, NOW, 7)
        seen.add(last)
    assert len(seen) == 2 * (ids.HIGHEST_SEQUENCE + 1) + 1
    assert (ids.time_of(last) - ids.time_of(min(seen))).total_seconds() == 0.002


def test_a_clock_that_steps_back_goes_on_from_the_last_id():
    last = ids.next_id(0, NOW, 1)
    assert ids.next_id(last, NOW - 3_600_000, 1) == last + 1


@QUICK
@given(now=st.integers(ids.EPOCH_MS + 1, ids.EPOCH_MS + 2**41 - 1), node=st.integers(0, ids.HIGHEST_NODE))
def test_an_id_tells_when_it_was_made(now, node):
    assert ids.time_of(ids.next_id(0, now, node)) == datetime.fromtimestamp(now // 1000, UTC).replace(
        microsecond=now % 1000 * 1000
    )


@pytest.mark.parametrize(
    ("last", "now", "node"),
    [(0, NOW, -1), (0, NOW, 1024), (-1, NOW, 0), (0, ids.EPOCH_MS + 2**41, 0), (ids.HIGHEST_ID, NOW, 1023)],
)
def test_what_cannot_be_an_id_is_refused(last, now, node):
    with pytest.raises(ValueError):
        ids.next_id(last, now, node)


def test_time_of_what_is_no_id_is_refused():
    for number in (-1, 2**63):
        with pytest.raises(ValueError):
            ids.time_of(number)


@QUICK
@given(id=st.integers(1, ids.HIGHEST_ID), length=st.integers(1, 19))
def test_a_suffix_of_four_digits_or_more_matches(id, length):
    suffix = str(id)[-length:]
    assert ids.matches_suffix(id, suffix) == (len(suffix) >= 4)


@pytest.mark.parametrize("text", ["", "789", "x6789", "-6789", "٦٧٨٩", "06789", "6780"])
def test_other_texts_match_no_id(text):
    assert not ids.matches_suffix(123456789, text)


@QUICK
@given(st.one_of(st.integers(1, ids.HIGHEST_ID).map(str), st.text(max_size=30), st.from_regex(r"\A[0-9]{1,25}\Z")))
def test_parse_id_reads_what_str_writes_and_nothing_else(text):
    if text.isascii() and text.isdigit() and text[0] != "0" and int(text) <= ids.HIGHEST_ID:
        assert str(ids.parse_id(text)) == text
    else:
        with pytest.raises(Invalid) as caught:
            ids.parse_id(text)
        assert caught.value.field == "id"


def test_parse_id_survives_a_huge_number():
    with pytest.raises(Invalid):
        ids.parse_id("9" * 100_000)


@pytest.mark.parametrize("name", ["train", "a", "run-3 lr=0.1", "7 dwarfs", "Überlauf_2", "実験-1", "नमस्ते", "a.b@c"])
def test_ordinary_names_pass(name):
    assert ids.check_name(name, "name", 40) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "-rf",
        ".hidden",
        "..",
        "1234",
        "٣٤٥٦",
        "a/b",
        "a\\b",
        "a\x00b",
        "a\nb",
        "a\x1b[31mb",
        "a\x9bb",
        "a\u202eb",
        "a\u2066b",
        "a\u200bb",
        "a\u200db",
        "a\ufeffb",
        "a\u00adb",
        "a\u3164b",
        "a\ufe0fb",
        "a\u2028b",
        "a\u00a0b",
        "a\ud800b",
        "<script>",
        "$(id)",
        "x" * 41,
        "x" * 1_000_000,
        "e\u0301" * 41,
    ],
)
def test_names_that_deceive_or_break_are_refused_with_field_and_limit(name):
    with pytest.raises(Invalid) as caught:
        ids.check_name(name, "name", 40)
    assert caught.value.field == "name"
    assert "40" in caught.value.limit
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


@QUICK
@given(st.text(max_size=60))
def test_a_name_that_passes_is_clean_and_passes_again(text):
    try:
        name = ids.check_name(text, "name", 40)
    except Invalid:
        return
    assert name.isprintable()
    assert not {"/", "\\"} & set(name)
    assert not any(unicodedata.category(character)[0] == "C" for character in name)
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI"} for c in name)
    assert ids.check_name(name, "name", 40) == name


@pytest.mark.parametrize("name", ["ana", "b.c", "d_e-f", "x9"])
def test_ordinary_user_names_pass(name):
    assert ids.check_user_name(name) == name


@pytest.mark.parametrize("name", ["", "Ana", "9x", ".a", "a.", "a b", "a/b", "ä", "a\n", "\u212a", "x" * 33, "root@h"])
def test_other_user_names_are_refused(name):
    with pytest.raises(Invalid, match="user name"):
        ids.check_user_name(name)
