"""What runs of tasks are called: `<task>.<generation>`."""

from typing import Final

from kohakuriver.errors import shorten

#: characters of an attempt id: 19 digits of task, a dot, 9 digits of generation
LONGEST_ATTEMPT: Final = 29


def attempt_id(task: int, generation: int) -> str:
    return f"{task}.{generation}"


def attempt_or_none(text: str) -> tuple[int, int] | None:
    """The task and generation of an attempt id; None when it is none. For the words of runners."""
    try:
        return parse_attempt(text)
    except ValueError:
        return None


def parse_attempt(text: str) -> tuple[int, int]:
    """The task and generation of an attempt id. Raises ValueError when it is none."""
    task, dot, generation = text.partition(".")
    if (
        not dot
        or len(text) > LONGEST_ATTEMPT
        or not (task.isascii() and task.isdigit() and generation.isascii() and generation.isdigit())
        or attempt_id(int(task), int(generation)) != text
    ):
        raise ValueError(f"{shorten(text)!r} is not an attempt: <task>.<generation>")
    return int(task), int(generation)
