"""Bodies of the HTTP API about many tasks at once, and about what binds one task to others; the rest is in `api.py`."""

import msgspec


class BatchView(msgspec.Struct, kw_only=True):
    """The tasks of one submission, counted by status."""

    batch: str
    owner: str
    tasks: int
    statuses: dict[str, int]
    #: how many tasks the request changed or found as it wants them
    changed: int


class ArrayView(msgspec.Struct, kw_only=True):
    """A task's place in its array; at most `most` of the array are under way at once."""

    index: int
    least: int
    greatest: int
    count: int
    most: int | None


class AfterView(msgspec.Struct, kw_only=True):
    """What a task starts after: a task, or all of a batch; ended well, or `always` however it ended."""

    id: str
    batch: bool
    always: bool


class RetryView(msgspec.Struct, kw_only=True):
    """How often a task is tried again, after which ends, how many seconds later, and how often it was."""

    most: int
    on: list[str]
    delay: int
    retried: int
