"""Lines and errors of a TOML file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohakuriver.config.document import read_document

TRICKY = '''# [host]
top = 1
[host]
a = "x # no comment"   # comment
"quoted key" = 'C:\\'
b = """
[runner]
c = 1
"""
list = [ # a
  "]", [1, 2],
  """x
y""",
]
d.e.f = { g = 1, h = "=" }
[plugins.process]
run_as = "nobody"
[[many]]
x = 1
[[many]]
x = 2
'''


def test_every_key_has_the_line_it_stands_on() -> None:
    document = read_document(TRICKY)
    assert document.values == tomllib.loads(TRICKY)
    assert document.errors == ()
    assert document.line("top") == 2
    assert document.line("host") == 3
    assert document.line("host", "quoted key") == 5
    assert document.line("host", "b") == 6
    assert document.line("host", "list") == 10
    assert document.line("host", "d", "e", "f") == 15
    assert document.line("host", "d", "e", "f", "g") == 15
    assert document.line("plugins", "process", "run_as") == 17
    assert document.line("nothing") == 1


def test_a_good_file_has_no_errors_with_windows_line_ends() -> None:
    text = TRICKY.replace("\n", "\r\n")
    assert read_document(text).errors == ()
    assert read_document(text).line("plugins", "process", "run_as") == 17


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = \nb = 1\nc = [1\nd = 2\n[host\ne = ]\n", [1, 3, 5, 6]),
        ('a = "open\nb = 1\nc = tru\n', [1, 3]),
        ("a = 1\na = 2\na = 3\n", [2, 3]),
        ("[host]\nx = 1\n[runner]\n[host]\nx = 2\n", [4, 5]),
        ("a = 1\na.b = 2\n", [2]),
        ("a = {x = 1, x = 2}\n", [1]),
        ("= 1\n", [1]),
        ("a\n", [1]),
        ("a = 2021-13-45\n", [1]),
        ("x = " + "[" * 5000 + "\n", [1]),
        ("x = " + "9" * 5000 + "\n", [1]),
    ],
)
def test_every_error_is_found_at_its_line(text: str, lines: list[int]) -> None:
    assert [line for line, _ in read_document(text).errors] == lines


def test_what_stands_beside_an_error_is_still_read() -> None:
    document = read_document("[host]\nhost_port = 1\nhost_port = 2\n[run ner]\nlost = 1\n[client]\nurl = 'x'\n")
    assert document.values == {"host": {"host_port": 1}, "client": {"url": "x"}}


@given(st.text(alphabet="ab=[]{}\"'\\#.,\n\r 1\x00é", max_size=60))
def test_any_text_is_a_document_or_has_an_error(text: str) -> None:
    document = read_document(text)
    try:
        assert document.values == tomllib.loads(text)
        assert document.errors == ()
    except tomllib.TOMLDecodeError:
        assert document.errors
    last = text.count("\n") + 1
    assert all(1 <= line <= last for line, _ in document.errors)
