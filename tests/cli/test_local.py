"""`kohakuriver local`: commands run here, once for each combination of their spans, in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import os, sys
def say(*words):
    print("called", *words)
    return len(words)
def nothing(*words):
    print("did", *words)
def good(*words):
    return True
def text(*words):
    return "no code"
if __name__ == "__main__":
    print("main", *sys.argv[1:])
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "spanned.py").write_text(MODULE)
    return tmp_path


def local(here: Path, *words: str, name: str = "main") -> subprocess.CompletedProcess[str]:
    """The executable, or under its other name."""
    code = f"import sys; sys.argv[0] = 'x'; from kohakuriver.__main__ import {name}; {name}()"
    first = ["local"] if name == "main" else []
    return subprocess.run(
        [sys.executable, "-c", code, *first, *words], cwd=here, capture_output=True, text=True, timeout=120, check=False
    )


def test_one_combination_takes_the_place_of_the_process(here: Path) -> None:
    done = local(here, "--", "sh", "-c", "echo $$ $0 $1; exit 7", "span:a b", "span:{3..3}")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split()[1:] == ["a", "b", "3"]


def test_every_combination_runs_in_its_turn_and_the_first_bad_code_counts(here: Path) -> None:
    done = local(here, "sh", "-c", 'echo "$0$1"; exit $0', "span:{0..2}", "span:[x,y]")
    assert done.stdout.split() == ["0x", "0y", "1x", "1y", "2x", "2y"]
    assert done.returncode == 1
    assert "run 3 of 6 ended with 1" in done.stderr
    assert "run 6 of 6 ended with 2" in done.stderr


@pytest.mark.parametrize("how", [["--parallel"], ["--at-once", "3"]])
def test_those_that_run_at_once_meet(here: Path, how: list[str]) -> None:
    """Each waits for the other two: one after the other, none would end."""
    code = "touch m$0; n=0; while [ $(ls m* | wc -l) -lt 3 ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done; ls m* | wc -l"
    done = local(here, *how, "sh", "-c", code, "span:{0..2}")
    assert (done.returncode, done.stdout.split()) == (0, ["3", "3", "3"])


def test_no_combination_runs_nothing(here: Path) -> None:
    done = local(here, "sh", "-c", "echo ran", "span:[]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["main", "hakurun"])
def test_modules_and_functions(here: Path, name: str) -> None:
    done = local(here, "spanned:say", "a", "b", name=name)
    assert (done.returncode, done.stdout) == (2, "called a b\n")
    for function in ("nothing", "good", "text"):
        done = local(here, f"spanned:{function}", "a", name=name)
        assert (done.returncode, done.stderr) == (0, "")
    assert local(here, "spanned", "x", "-y", name=name).stdout == "main x -y\n"
    several = local(here, "spanned:nothing", "span:[c, d]", "span:[span:{1..2}]", name=name)
    assert several.stdout.splitlines() == ["did c span:{1..2}", "did d span:{1..2}"]


def test_a_signal_is_told_as_a_shell_does(here: Path) -> None:
    done = local(here, "sh", "-c", "test $0 = 1 && kill -9 $$; exit 0", "span:{0..1}")
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "no command"),
        (["no-such-thing"], 3, "neither a program nor a module"),
        (["./no-such-thing"], 3, "no program"),
        (["spanned:missing"], 3, "no function 'missing'"),
        (["no.such:thing"], 1, "cannot be imported"),
        (["sh", "span:{3..1}"], 2, "backwards"),
        (["--at-once", "0", "sh"], 2, "--at-once"),
        (["sh", "span:{0..99999999}"], 2, "too many"),
    ],
)
def test_what_cannot_run_is_told(here: Path, words: list[str], code: int, says: str) -> None:
    done = local(here, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_an_interrupt_ends_what_runs(here: Path) -> None:
    code = "import sys; from kohakuriver.__main__ import main; main()"
    # a shell starts what runs in its background with the signal ignored, and so may have started these tests
    heeding = ["env", "--default-signal=INT", sys.executable, "-c", code]
    words = [*heeding, "local", "--parallel", "sh", "-c", "echo up; exec sleep 1000", "span:{0..1}"]
    with subprocess.Popen(words, cwd=here, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(60) == 130
            os.set_blocking(process.stdout.fileno(), False)
            assert process.stdout.read() == "", "nobody holds it any more"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
