"""Bodies of the HTTP API about many tasks at once; the rest is in `api.py`."""

from kohakuriver.wire.api import View


class BatchView(View, kw_only=True):
    """The tasks of one submission, counted by status."""

    batch: str
    owner: str
    tasks: int
    statuses: dict[str, int]
    #: how many tasks the request changed or found as it wants them
    changed: int
