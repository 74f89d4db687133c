"""Commands run here, once for each combination of their spans. Speaks to no host.

A word with a slash, or one that PATH has, is a program; `module:function` is called with the words as texts; any other
module is run as a program of its own. One combination takes this process's place, several get one each.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Output
from kohakuriver.domain.spans import combinations
from kohakuriver.errors import Invalid, KohakuRiverError, NotFound

#: combinations that are run, which is a mistake above that
MOST_RUNS = 100_000
#: what a shell answers for a program that was ended by signal N is this and N
SIGNALLED = 128


def run_here(words: Sequence[str], out: Output, *, at_once: int | None, literal: bool) -> int:
    """The code of the first run, in order, that did not end well. `at_once` None: all; `literal`: spans are texts."""
    commands = [tuple(words)] if literal else list(combinations(words, most=MOST_RUNS))
    if len(commands) == 1:
        take_place(commands[0])
    codes = [OK] * len(commands)
    for number, code in _run_all([_argv(command) for command in commands], at_once or len(commands)):
        codes[number] = code
        if code:
            out.say(f"run {number + 1} of {len(commands)} ended with {code}: {' '.join(commands[number])}")
    return next((code for code in codes if code), OK)


def take_place(command: Sequence[str]) -> NoReturn:
    """This process becomes the command, or does its work and ends."""
    word, *arguments = command
    program = _program(word)
    if program is not None:
        sys.stdout.flush()
        os.execv(program, list(command))  # noqa: S606  its own arguments, and no shell
    module, colon, function = word.partition(":")
    _check_module(module, word)
    if not colon:
        import runpy

        sys.argv = list(command)
        runpy.run_module(word, run_name="__main__", alter_sys=True)
        raise SystemExit(OK)
    from importlib import import_module

    called = getattr(import_module(module), function, None)
    if not callable(called):
        raise NotFound(f"module {module} has no function {function!r}", field="command", value=word)
    answer = called(*arguments)
    raise SystemExit(answer if isinstance(answer, int) and not isinstance(answer, bool) else OK)


def _run_all(commands: Sequence[Sequence[str]], at_once: int) -> list[tuple[int, int]]:
    """The number and the code of each run, in the order in which they ended. Interrupted, it ends those that run."""
    ended: list[tuple[int, int]] = []
    running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
    waiting = list(enumerate(commands))[::-1]
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                with _undisturbed():
                    number, argv = waiting.pop()
                    process = subprocess.Popen(argv)
                    running[process.pid] = (number, process)
            pid, status = os.wait()
            if pid in running:
                number, process = running.pop(pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                ended.append((number, _code(process.returncode)))
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return ended


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An interrupt waits until the block is through, so that no process is begun and forgotten."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted and callable(before):
        before(signal.SIGINT, None)


def _code(returned: int) -> int:
    return SIGNALLED - returned if returned < 0 else returned


def _argv(command: Sequence[str]) -> list[str]:
    """A program itself; a module in an interpreter of its own. Raises NotFound."""
    program = _program(command[0])
    if program is not None:
        return [program, *command[1:]]
    _check_module(command[0].partition(":")[0], command[0])
    return [sys.executable, "-m", "kohakuriver", "local", "--literal", "--", *command]


def _program(word: str) -> str | None:
    """The program that the word names; None for a module."""
    from shutil import which

    if not word:
        raise Invalid("the program's name is empty", field="command")
    found = which(word)
    if found is None and "/" in word:
        raise NotFound(f"{word} is no program that can be run", field="command", value=word)
    return found


def _check_module(module: str, word: str) -> None:
    """Raises KohakuRiverError unless it can be imported, which the directory that we are in is searched for first."""
    from importlib.util import find_spec

    here = os.getcwd()  # noqa: PTH109  a word for the import system
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        found = find_spec(module)
    except (ImportError, ValueError) as error:
        raise KohakuRiverError(f"{module} cannot be imported: {error}", field="command", value=word) from None
    if found is None:
        raise NotFound(f"{word!r} is neither a program nor a module", field="command", value=word)
