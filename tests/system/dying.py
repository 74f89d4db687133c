"""`kohakuriver` that dies by its own SIGKILL at the commit that a file names; as usual while there is none.

The file, by the variable DYING, holds JSON: `step` (which commit of this server from now on, from 1 on), `when` (before
or after it), `case` (another one begins to count anew). Run as a program.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kohakuriver.cli.main import run
from kohakuriver.runner import database
from kohakuriver.store.group import Group

_seen: dict[str, int] = {}


def _die_if_now(when: str, count: int) -> None:
    try:
        with open(os.environ["DYING"], encoding="ascii") as file:
            told = json.load(file)
    except FileNotFoundError:
        return
    _seen[told["case"]] = _seen.get(told["case"], 0) + count
    if told["when"] == when and _seen[told["case"]] == told["step"]:
        os.kill(os.getpid(), signal.SIGKILL)


def _deadly(commit: Callable[..., Any], writes: Callable[[Sequence[Any]], bool]) -> Callable[..., Any]:
    """The same, and death before or after it if it is the one."""

    def committed(self: Any, members: Sequence[Any]) -> Any:
        if not writes(members):
            return commit(self, members)
        _die_if_now("before", 1)
        answer = commit(self, members)
        _die_if_now("after", 0)
        return answer

    return committed


if __name__ == "__main__":
    writes = lambda batch: any(not work.read for work in batch)  # noqa: E731
    database._File.commit = _deadly(database._File.commit, writes)  # type: ignore[method-assign]
    Group.outcomes = _deadly(Group.outcomes, bool)  # type: ignore[method-assign]
    sys.exit(run(sys.argv[1:]))
