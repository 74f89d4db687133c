"""Names of environments and images, and which versions are kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohakuriver.domain.environments import (
    check_environment,
    check_image,
    parse_version,
    surplus,
    version_name,
)
from kohakuriver.errors import Invalid

GOOD = ["a", "my-env", "a.b", "a_b", "a__b", "a---b", "0", "py3.12", "a" * 63]
BAD = [
    "", "a..b", "a-", "-a", "a___b", ".a", "a.", "A", "a b", "a/b", "../../etc", "a:b", "a\n", "ä", "a._b", "a" * 64, "٣",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_these_are_names(name):
    assert check_environment(name) == name


@pytest.mark.parametrize("name", BAD)
def test_these_are_no_names(name):
    with pytest.raises(Invalid) as caught:
        check_environment(name, "container")
    assert caught.value.field == "container"


@pytest.mark.parametrize(("text", "meant"), [("a", ("a", None)), ("a:1", ("a", 1)), ("a.b:987", ("a.b", 987))])
def test_a_version_is_a_name_and_perhaps_a_number(text, meant):
    assert parse_version(text) == meant


@pytest.mark.parametrize("text", ["a:", "a:0", "a:01", "a:-1", "a:x", "a:1:2", ":1", "a:1 ", "a:٣", "a:" + "9" * 19])
def test_these_are_no_versions(text):
    with pytest.raises(Invalid):
        parse_version(text)


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9]{1,20}(-[a-z0-9]{1,20})?", fullmatch=True), st.integers(1, 10**18 - 1))
def test_a_version_is_read_as_it_is_written(name, number):
    assert parse_version(version_name(name, number)) == (name, number)


@pytest.mark.parametrize(
    "text",
    [
        "debian", "debian:12", "library/debian:12", "ghcr.io/a/b:v1.0_x", "localhost:5000/x", "localhost/x", "h:5000/a/b:t",
        "debian@sha256:" + "0" * 64, "debian:12@sha256:" + "a" * 64, "[::1]:5000/x:y", "a__b/c-d.e",
    ],
)  # fmt: skip
def test_these_are_image_references(text):
    assert check_image(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "--privileged", "-v", "Debian", "debian:", "debian:-x", "a//b", "/a", "a/", "debian:12:13", "debian@sha256:12",
        "debian@md5:" + "0" * 32, "a b", "a\n", "../x", "http://x/y", "x" * 256, "debian:" + "t" * 129, "h:port/x", "a;b",
    ],
)  # fmt: skip
def test_these_are_no_image_references(text):
    with pytest.raises(Invalid):
        check_image(text)


@pytest.mark.parametrize(
    ("keep", "used", "gone"),
    [(0, set(), []), (5, set(), []), (2, set(), [1, 2]), (1, {2}, [1, 3]), (1, {1, 2, 3, 4}, []), (9, set(), [])],
)
def test_the_newest_are_kept_and_what_is_in_use(keep, used, gone):
    assert surplus([3, 1, 4, 2], keep=keep, used=used) == gone


@settings(deadline=None)
@given(st.sets(st.integers(1, 99)), st.integers(0, 20), st.sets(st.integers(1, 99)))
def test_never_one_in_use_nor_the_newest(numbers, keep, used):
    gone = surplus(numbers, keep=keep, used=used)
    assert not set(gone) & used
    assert max(numbers, default=0) not in gone
