"""How far it is, as people see it."""

import io

import pytest

from kohakuriver.cli.output import Output, Style
from kohakuriver.cli.progress import Progress, picture, sent


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(terminal, views, quiet=False):
    screen, clock = Screen(terminal), Clock()
    progress = Progress(Output(Style(quiet=quiet), io.StringIO(), screen), clock=clock)
    for at, view in views:
        clock.now = at
        progress.show(view)
    progress.close()
    progress.close()
    return screen.getvalue()


STEPS = [
    (0, {"note": "exporting", "done": 0, "total": 1000}),
    (1, {"note": "exporting", "done": 500, "total": 1000}),
    (1.01, {"note": "exporting", "done": 501, "total": 1000}),
    (2, {"note": "exporting", "done": 1000, "total": 1000}),
    (3, {"note": "sending", "done": None, "total": None}),
]


def test_a_terminal_sees_a_bar_with_bytes_and_rate():
    text = shown(True, STEPS)
    assert "[############............] 500B of 1000B, 500B/s, 1s left" in text
    assert "501B" not in text
    assert text.endswith("\r\x1b[Ksending\n")
    assert text.count("\n") == 2


def test_elsewhere_each_step_is_a_line():
    assert shown(False, STEPS) == "exporting\nsending\n"


def test_quiet_sees_nothing():
    assert shown(True, STEPS, quiet=True) == ""


@pytest.mark.parametrize(
    ("done", "total", "rate", "line"),
    [
        (None, None, None, "x"),
        (5, None, None, "x  5B"),
        (5, 0, 2.0, "x  5B, 2B/s"),
        (20, 10, None, f"x  [{'#' * 24}] 20B of 10B"),
        ("5", 10, None, "x"),
    ],
)
def test_what_is_not_known_is_not_shown(done, total, rate, line):
    assert picture("x", done, total, rate) == line


def test_control_characters_of_a_note_do_nothing_to_the_screen():
    assert "\x1b" not in picture("a\x1b[2Jb", None, None, None)


def test_what_is_sent_is_shown_and_unchanged():
    screen = Screen(False)
    progress = Progress(Output(Style(), io.StringIO(), screen), clock=Clock())
    assert list(sent([b"ab", b"c"], None, progress, "sending")) == [b"ab", b"c"]
    assert screen.getvalue() == "sending\n"
