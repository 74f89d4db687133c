"""Tables, YAML, CSV and names."""

import csv
import io
import json
import os
import pty
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kohakuriver.cli.clean import clean, clean_json, clean_lines
from kohakuriver.cli.output import Column, Output, Style, width_of
from kohakuriver.cli.table import cells, draw
from kohakuriver.cli.yaml import emit
from kohakuriver.errors import Invalid

ROWS = [{"id": "1", "name": "ä\x1b]0;x\x07", "n": None}, {"id": "22", "name": 'a "b", c', "n": [1]}]
DANGEROUS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printed(style: Style, data, **more) -> str:
    stdout = io.StringIO()
    Output(style, stdout, io.StringIO()).data(data, **more)
    return stdout.getvalue()


def test_tables_escape_what_a_terminal_would_obey() -> None:
    assert printed(Style(), ROWS, columns=("id", "name")) == 'ID  NAME\n1   ä\\e]0;x\\x07\n22  a "b", c\n'


def test_titles_can_be_left_out_and_columns_chosen() -> None:
    assert printed(Style(headers=False, columns=("n", "id")), ROWS, columns=("id",)) == "     1\n[1]  22\n"


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        printed(Style(columns=("idd",)), ROWS, columns=("id",))
    assert caught.value.limit == "id, name, n"


def test_columns_show_through_functions() -> None:
    assert printed(Style(), ROWS[:1], columns=(Column("id", "X", lambda row: row["id"] * 3),)) == "X\n111\n"


def test_json_lists_are_pages() -> None:
    assert json.loads(printed(Style(format="json"), ROWS, more="c")) == {"items": ROWS, "next": "c"}
    assert json.loads(printed(Style(format="json"), ROWS[0])) == ROWS[0]


def test_csv_is_read_back() -> None:
    read = list(csv.DictReader(io.StringIO(printed(Style(format="csv"), ROWS))))
    assert [each["id"] for each in read] == ["1", "22"]
    assert read[1]["name"] == 'a "b", c'


@pytest.mark.parametrize("style", [Style(quiet=True), Style(format="name"), Style(format="json", quiet=True)])
def test_names_alone(style: Style) -> None:
    assert printed(style, ROWS) == "1\n22\n"
    assert printed(style, ROWS[0], name="name") == "ä\\e]0;x\\x07\n"


def test_a_record_is_lines_of_fields_without_empty_ones() -> None:
    assert printed(Style(), ROWS[0]) == "id:    1\nname:  ä\\e]0;x\\x07\n"


def test_notes_are_silent_when_quiet_and_words_that_count_are_not() -> None:
    stderr = io.StringIO()
    out = Output(Style(quiet=True), io.StringIO(), stderr)
    out.note("a")
    out.say("b")
    assert stderr.getvalue() == "b\n"


@pytest.mark.parametrize(
    ("color", "environ", "coloured"),
    [("always", {"NO_COLOR": "1"}, True), ("never", {}, False), ("auto", {}, False)],
)
def test_colours_only_where_they_are_wanted(monkeypatch, color: str, environ: dict, coloured: bool) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    text = printed(Style(color=color), [{"status": "running"}], columns=("status",))
    assert text == ("STATUS\n\x1b[32mrunning\x1b[0m\n" if coloured else "STATUS\nrunning\n")


@pytest.mark.parametrize(("columns", "expected"), [(0, None), (72, 72)])
def test_width_of_a_terminal_even_of_one_without_columns(columns: int, expected: int | None) -> None:
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        assert width_of(stream) == expected
    os.close(ours)
    assert width_of(io.StringIO()) is None


def test_a_table_is_cut_to_the_terminal() -> None:
    lines = draw(["ID", "COMMAND"], [["1", "x" * 100], ["2", "short"]], width=30)
    assert lines == ["ID  COMMAND", "1   " + "x" * 25 + "~", "2   short"]


def test_wide_characters_count_twice_and_are_never_split() -> None:
    lines = draw(None, [["水" * 30, "b"]], width=21)
    assert cells(lines[0]) <= 21
    assert lines[0] == "水" * 8 + "~" + "   b"


def test_a_terminal_too_narrow_to_read_is_not_honoured() -> None:
    assert draw(None, [["x" * 50]], width=1) == ["x" * 50]


@given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=5), width=st.integers(0, 60) | st.none())
def test_no_text_of_others_gets_through_a_table(rows, width) -> None:
    for line in draw(["A", "B"], rows, width=width):
        assert not DANGEROUS.search(line)
        assert "\n" not in line


@given(text=st.text())
def test_cleaning_leaves_nothing_that_is_obeyed(text: str) -> None:
    assert not DANGEROUS.search(clean(text))
    assert not DANGEROUS.search(clean_lines(text))
    assert clean_lines(text).count("\n") == text.count("\n")
    dumped = clean_json(json.dumps(text, ensure_ascii=False))
    assert not DANGEROUS.search(dumped)
    assert json.loads(dumped) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_yaml_is_read_back_as_what_it_was(value: object) -> None:
    text = emit(value)
    assert not DANGEROUS.search(text)
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "null", "~", "1e3", "0x10", "12:30", "2026-01-01", "- a", "a: b", "#", "", " ", "="]
)
def test_yaml_quotes_what_would_be_read_as_something_else(word: str) -> None:
    assert yaml.safe_load(emit({word: word})) == {word: word}
