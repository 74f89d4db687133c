"""The front door: words into commands, failures into sentences and exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import pytest

from kohakuriver import errors
from kohakuriver.cli import exits
from kohakuriver.cli.exits import UsageError
from kohakuriver.cli.main import NOUNS, SHORT, SHORT_HELP, noun_parser
from kohakuriver.cli.parser import Parser, children
from tests.client.scripted import Peer, Reply, problem

TASKS = "/api/v1/tasks"
EMPTY = {"items": [], "next": None}


@pytest.mark.parametrize("noun", NOUNS)
def test_each_noun_keeps_the_convention(noun: str) -> None:
    module = import_module(f"kohakuriver.cli.commands.{NOUNS[noun][0]}")
    assert NOUNS[noun][1] == module.HELP
    for parser in [noun_parser(noun), *children(noun_parser(noun)).values()]:
        assert parser.format_help().startswith(f"usage: kohakuriver {noun}")


def test_short_words_lead_to_commands() -> None:
    assert SHORT.keys() == SHORT_HELP.keys()
    for noun, verb, *_ in SHORT.values():
        assert verb in children(noun_parser(noun))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["tsk"], "did you mean task?"),
        (["task", "sumbit"], "did you mean submit?"),
        (["task", "list", "--frob"], "--frob"),
        (["task", "status"], "TASK"),
        (["task", "list", "-l", "x"], "-l"),
        (["task", "list", "-o", "xml"], "xml"),
        (["-P", "99999", "task", "list"], "TCP port"),
        (["task", "list", "--stat", "x"], "--stat"),
        (["task"], "verb"),
        (["user", "role", "a", "emperor"], "viewer"),
    ],
)
def test_wrong_words_are_one_line_and_exit_2(call, words: list[str], hint: str) -> None:
    ran = call(*words)
    assert (ran.code, ran.out) == (2, "")
    assert hint in ran.err
    assert ran.err.count("\n") == 1


def test_nothing_at_all_prints_the_help_and_exits_2(call) -> None:
    ran = call()
    assert ran.code == 2
    assert "nouns:" in ran.err


def test_options_of_every_command_stand_anywhere(call, peer: Peer) -> None:
    peer.on("GET", TASKS, EMPTY)
    for words in (
        ["-o", "json", "task", "list"],
        ["task", "-o", "json", "list"],
        ["task", "list", "-o", "json"],
        ["ps", "--json"],
    ):
        ran = call(*words)
        assert (ran.code, json.loads(ran.out)) == (0, EMPTY)


def test_the_last_word_on_an_option_counts(call, peer: Peer) -> None:
    peer.on("GET", TASKS, EMPTY)
    assert call("-o", "json", "task", "list", "-o", "csv").out == ""


def test_the_environment_names_the_output(call, peer: Peer, monkeypatch) -> None:
    peer.on("GET", TASKS, EMPTY)
    monkeypatch.setenv("KOHAKURIVER_OUTPUT", "yaml")
    assert call("ps").out == "items: []\nnext: null\n"
    monkeypatch.setenv("KOHAKURIVER_OUTPUT", "xml")
    assert call("ps").code == 2


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (problem(404, "not_found", "no"), 3),
        (problem(401, "not_signed_in", "no"), 4),
        (problem(403, "not_allowed", "no"), 4),
        (problem(409, "conflict", "no"), 5),
        (problem(409, "invalid_transition", "no"), 5),
        (problem(422, "never_fits", "no"), 5),
        (problem(410, "gone", "no"), 5),
        (problem(422, "invalid", "no"), 2),
        (problem(409, "quota_exceeded", "no"), 7),
        (problem(503, "not_ready", "no"), 6),
        (problem(507, "storage_full", "no"), 1),
        (problem(500, "error", "no"), 1),
        (problem(429, "too_many", "no"), 1),
        (Reply(breaks=True), 6),
    ],
)
def test_answers_become_exit_codes(call, peer: Peer, reply: Reply, code: int) -> None:
    peer.on("GET", f"{TASKS}/7", reply)
    ran = call("task", "status", "7")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_every_error_has_a_code_other_than_success() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert all(exits.exit_code(kind()) in range(1, 8) for kind in kinds)


def test_errors_name_field_value_and_limit(call, peer: Peer) -> None:
    peer.on(
        "GET", f"{TASKS}/7", problem(422, "invalid", "too many cores", field="cores", value="99", limit="at most 8")
    )
    assert call("task", "status", "7").err == "error: too many cores (given 99; expected at most 8)\n"


def test_errors_are_json_where_json_was_asked_for(call, peer: Peer) -> None:
    peer.on("GET", f"{TASKS}/7", problem(409, "conflict", "no\x1b[31m", field="status"))
    ran = call("task", "status", "7", "-o", "json")
    assert json.loads(ran.err) == {
        "error": {"code": "conflict", "detail": "no\x1b[31m", "field": "status"}, "exit_code": 5,
    }  # fmt: skip
    ran = call("task", "list", "--json", "--frob")
    assert json.loads(ran.err)["error"]["code"] == "usage"


def test_control_characters_of_errors_are_not_obeyed(call, peer: Peer) -> None:
    peer.on("GET", f"{TASKS}/7", problem(409, "conflict", "no\x1b[31m\nreally\u202e"))
    assert call("task", "status", "7").err == "error: no\\e[31m\\nreally\\u202e\n"


def test_not_signed_in_names_the_next_step(call, peer: Peer) -> None:
    peer.on("GET", f"{TASKS}/7", problem(401, "not_signed_in", "who are you"))
    assert "kohakuriver auth login" in call("task", "status", "7").err


@pytest.fixture
def heeding() -> Iterator[None]:
    """Whoever started these tests in a shell's background made them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding")
def test_ctrl_c_is_130(call, peer: Peer, monkeypatch) -> None:
    monkeypatch.setattr("kohakuriver.client.http.Client.get", lambda *_words, **_more: os.kill(os.getpid(), 2))
    peer.on("GET", f"{TASKS}/7", {})
    ran = call("task", "status", "7")
    assert (ran.code, ran.err) == (130, "interrupted\n")


def program(*words: str, **environ: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kohakuriver", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environ})


def row(number: int) -> dict[str, object]:
    return {"id": str(number), "name": "n" * 100, "status": "running", "command": ["true"]}


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv", "name"])
def test_a_closed_stdout_is_silent(home, peer: Peer, form: str) -> None:
    peer.on("GET", TASKS, {"items": [row(i) for i in range(5000)], "next": None})
    ran = program("ps", "--all", "-o", form, KOHAKURIVER_URL=peer.url)
    assert ran.stdout is not None
    ran.stdout.close()
    assert ran.stderr is not None
    with ran.stderr:
        assert ran.stderr.read() == b""
    assert ran.wait() == 141


def test_a_full_disk_is_told(home, peer: Peer) -> None:
    peer.on("GET", TASKS, {"items": [row(1)], "next": None})
    command = [sys.executable, "-m", "kohakuriver", "ps"]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env={**os.environ, "KOHAKURIVER_URL": peer.url}, check=False
        )
    assert (ran.returncode, ran.stderr) == (1, b"error: no space left on device\n")


@pytest.mark.parametrize("locale", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_names_of_any_script_are_printed_under_any_locale(home, peer: Peer, locale: dict[str, str]) -> None:
    peer.on("GET", TASKS, {"items": [{**row(1), "name": "水\udcff"}], "next": None})
    ran = program("ps", KOHAKURIVER_URL=peer.url, **locale)
    out, err = ran.communicate()
    assert (ran.returncode, err) == (0, b"")
    assert b"\\udcff" in out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a"], (".", "D")),
        (["a", "there"], ("there", "D")),
        (["a", "-f", "F", "there"], ("there", "F")),
        (["-f", "F", "a", "there"], ("there", "F")),
        (["a", "there", "-f", "F"], ("there", "F")),
    ],
)
def test_a_last_word_that_may_be_left_out_stands_anywhere(words, found):
    parser = Parser(prog="x")
    parser.add_argument("name")
    parser.add_argument("context", nargs="?", default=".")
    parser.add_argument("-f", default="D")
    args = parser.parse_args(words)
    assert (args.context, args.f) == found


@pytest.mark.parametrize("words", [["a", "there", "-f", "F", "more"], ["a", "-f", "F", "there", "more"]])
def test_a_word_too_many_is_still_one_too_many(words):
    parser = Parser(prog="x")
    parser.add_argument("name")
    parser.add_argument("context", nargs="?", default=".")
    parser.add_argument("-f", default="D")
    with pytest.raises(UsageError, match="more"):
        parser.parse_args(words)
