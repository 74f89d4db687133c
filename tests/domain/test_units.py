"""Sizes and durations: what is read, what is refused, and that writing and reading agree."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kohakuriver.domain import units
from kohakuriver.errors import Invalid

QUICK = settings(max_examples=200, deadline=None)
HOSTILE = st.one_of(
    st.text(max_size=30),
    st.text("0123456789.:-+eEkKmMgGtTpPiIbBsShHdDwW ∞٣²", max_size=30),
)


def outcome(read, text):
    try:
        return read(text)
    except Invalid as error:
        return error


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * 1024**3),
        ("8GB", 8 * 1024**3),
        ("8GiB", 8 * 1024**3),
        ("8g", 8 * 1024**3),
        ("512M", 512 * 1024**2),
        ("1.5G", 3 * 512 * 1024**2),
        ("4k", 4096),
        ("2T", 2 * 1024**4),
        ("1P", 1024**5),
        ("100B", 100),
        ("0B", 0),
        ("0.1K", 102),
    ],
)
def test_sizes_are_powers_of_1024(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "-1G",
        "+1G",
        "1e99G",
        "∞",
        "8X",
        "8 G",
        " 8G",
        "8G ",
        "8iB",
        "1..5G",
        ".5G",
        "5.G",
        "1,5G",
        "٨G",
        "8G\n",
        "9999999999G",
        "8589934592G",
        "9" * 5000 + "G",
        "1.5B",
        "NaN",
        "inf",
        "0x10G",
        "1_0G",
        "8GG",
        "8\uff27B",
    ],
)
def test_other_sizes_are_refused_with_field_value_and_limit(text):
    with pytest.raises(Invalid) as caught:
        units.parse_size(text, field="memory")
    assert caught.value.field == "memory"
    assert caught.value.limit
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["8", "0", "1.5"])
def test_a_size_without_unit_is_refused_and_answered_with_what_was_meant(text):
    with pytest.raises(Invalid, match=rf"{text}M or {text}G"):
        units.parse_size(text)


def test_a_size_below_the_least_is_refused_with_the_least():
    with pytest.raises(Invalid, match="at least 4M"):
        units.parse_size("1M", least=4 * units.MIB)


@QUICK
@given(st.integers(0, units.HIGHEST_SIZE))
@example(0)
@example(units.HIGHEST_SIZE)
def test_a_written_size_reads_back_exactly(size):
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"), [(8 * 1024**3, "8G"), (1536 * 1024**2, "1536M"), (8 * 1024**3 + 1, "8589934593B"), (0, "0B")]
)
def test_sizes_are_written_short_where_that_is_exact(size, text):
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (8 * 1024**3, "8 GiB"),
        (7 * 1024**3 + 512 * 1024**2, "7.5 GiB"),
        (8 * 1024**3 - 1, "7.9 GiB (8589934591 bytes)"),
        (1000, "1000 bytes"),
        (-(2 * 1024**3), "-2 GiB"),
    ],
)
def test_a_shown_size_is_never_rounded_up_and_says_the_bytes_where_it_was_cut(size, text):
    assert units.show_size(size) == text


@QUICK
@given(HOSTILE)
def test_hostile_sizes_give_a_size_or_invalid(text):
    read = outcome(units.parse_size, text)
    if isinstance(read, Invalid):
        assert read.field == "memory"
        assert read.message.isprintable()
    else:
        assert 0 <= read <= units.HIGHEST_SIZE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("2h30m", 9000),
        ("1d", 86400),
        ("1w", 7 * 86400),
        ("1d2h3m4s", 93784),
        ("1.5h", 5400),
        ("0s", 0),
        ("02:30:00", 9000),
        ("100:00:00", 360000),
        ("1-02:03:04", 93784),
    ],
)
def test_durations_are_read_in_both_manners(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "-1h",
        "1h-",
        "30m2h",
        "1h1h",
        "1 h",
        "∞",
        "1e9s",
        "٩s",
        "0.5s",
        "2:30",
        "1:60:00",
        "1:00:60",
        "1-24:00:00",
        "1-2",
        "1:2:3",
        ":::",
        "99999d",
        "9" * 5000 + "s",
        "1H",
        "5ms",
        "1y",
    ],
)
def test_other_durations_are_refused_with_field_and_limit(text):
    with pytest.raises(Invalid) as caught:
        units.parse_duration(text, field="time_limit")
    assert caught.value.field == "time_limit"
    assert caught.value.limit
    assert len(caught.value.message) < 200


def test_a_duration_without_unit_is_refused_and_answered_with_what_was_meant():
    with pytest.raises(Invalid, match="30s, 30m or 30h"):
        units.parse_duration("30")


def test_a_duration_below_the_least_is_refused():
    with pytest.raises(Invalid, match="1s to"):
        units.parse_duration("0s", least=1)


@QUICK
@given(st.integers(0, units.LONGEST_DURATION))
@example(units.LONGEST_DURATION)
def test_a_written_duration_reads_back(seconds):
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@QUICK
@given(st.integers(0, 999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_slurms_manner_means_the_same_as_ours(days, hours, minutes, seconds):
    theirs = units.parse_duration(f"{days}-{hours:02}:{minutes:02}:{seconds:02}")
    assert theirs == units.parse_duration(f"{days}d{hours}h{minutes}m{seconds}s")


@QUICK
@given(HOSTILE)
def test_hostile_durations_give_seconds_or_invalid(text):
    read = outcome(units.parse_duration, text)
    if isinstance(read, Invalid):
        assert read.field == "time_limit"
        assert read.message.isprintable()
    else:
        assert 0 <= read <= units.LONGEST_DURATION
