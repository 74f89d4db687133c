"""What a command exits with. The one table from errors to exit codes."""

from collections.abc import Mapping
from typing import Any

from kohakuriver import errors
from kohakuriver.errors import KohakuRiverError

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
IMPOSSIBLE = 5
UNREACHABLE = 6
NO_CAPACITY = 7
TIMED_OUT = 124
OUR_FAILURE = 125
INTERRUPTED = 130
BROKEN_PIPE = 141
OUT_OF_MEMORY = 137

#: the first class that fits counts
TABLE: tuple[tuple[type[KohakuRiverError], int], ...] = (
    (errors.QuotaExceeded, NO_CAPACITY),
    (errors.NeverFits, IMPOSSIBLE),
    (errors.TooLarge, IMPOSSIBLE),
    (errors.Conflict, IMPOSSIBLE),
    (errors.Gone, IMPOSSIBLE),
    (errors.Malformed, USAGE),
    (errors.Invalid, USAGE),
    (errors.ConfigError, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.NotSignedIn, NOT_ALLOWED),
    (errors.NotAllowed, NOT_ALLOWED),
    (errors.Unreachable, UNREACHABLE),
    (errors.NotReady, UNREACHABLE),
)


class UsageError(errors.Invalid):
    """the command line cannot be understood"""

    code = "usage"


class TimedOut(KohakuRiverError):
    """the time is over; the task goes on"""

    code = "timed_out"


def exit_code(error: KohakuRiverError) -> int:
    """The code for this error."""
    if isinstance(error, TimedOut):
        return TIMED_OUT
    return next((code for kind, code in TABLE if isinstance(error, kind)), FAILED)


def task_exit_code(task: Mapping[str, Any]) -> int:
    """What a shell would have answered for the ended task: its code, 128 + signal, or 125 when it never ran."""
    ended = task.get("exit") or {}
    if task.get("status") == "killed_oom" or ended.get("oom"):
        return OUT_OF_MEMORY
    if ended.get("signal"):
        return 128 + int(ended["signal"])
    if ended.get("code") is not None:
        return int(ended["code"])
    return OK if task.get("status") in {"completed", "stopped", "removed"} else OUR_FAILURE
