"""When what holds a place will have ended at the latest, as far as time limits tell. Nothing is reckoned unasked."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from kohakuriver.domain.tasks import HOLDING, Status, Task, Wanted
from kohakuriver.host.board import Board


class TimeLeft(Mapping[int, float]):
    """Seconds from a moment on by task; without those of which nobody knows: no time limit, or paused."""

    def __init__(self, board: Board, moment: datetime) -> None:
        """One moment for one plan: the same question always has the same answer."""
        self._board = board
        self._moment = moment

    def __getitem__(self, task: int) -> float:
        known = self._board.get(task)
        left = None if known is None else self._left(known)
        if left is None:
            raise KeyError(task)
        return left

    def _left(self, task: Task) -> float | None:
        spec = task.spec
        if task.status is Status.STOPPING:
            return float(spec.grace)
        if spec.time_limit is None or task.status is Status.PAUSED or task.wanted is Wanted.PAUSED:
            return None
        whole = float(spec.time_limit + spec.grace)
        if task.status is not Status.RUNNING or task.started is None:
            return whole
        return whole - (self._moment - task.started).total_seconds()

    def __iter__(self) -> Iterator[int]:
        return (task.id for task in self._board.all() if task.status in HOLDING and task.id in self)

    def __contains__(self, task: object) -> bool:
        known = self._board.get(task) if isinstance(task, int) else None
        return known is not None and self._left(known) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self)
