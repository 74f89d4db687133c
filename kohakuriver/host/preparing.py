"""How far the preparation of each attempt is, in the words of its node. In memory alone: it is told again and again."""

from kohakuriver.domain.attempts import attempt_or_none
from kohakuriver.domain.tasks import Status, Task
from kohakuriver.host.board import Board
from kohakuriver.host.stock import word

#: what a node can be preparing
STATUSES = frozenset({Status.ASSIGNED, Status.STARTING})
LONGEST = 300


class Preparing:
    """The newest words for each task that is about to start."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._notes: dict[int, tuple[int, str]] = {}

    def take(self, node: int, attempt: str, note: str) -> None:
        """What a node says of an attempt; nothing of one that it has not got, or that has begun."""
        named = attempt_or_none(attempt)
        task = None if named is None else self._board.get(named[0])
        if named is None or task is None or (task.node, task.generation) != (node, named[1]):
            return
        if task.status in STATUSES:
            self._notes[task.id] = (task.generation, word(note, LONGEST))

    def told(self, task: Task) -> str:
        """How far it is; "" when nothing was said, or it is not being prepared."""
        generation, note = self._notes.get(task.id, (None, ""))
        return note if task.status in STATUSES and generation == task.generation else ""

    def follow(self, before: Task, after: Task) -> None:
        """Called after every committed change of a task."""
        del before
        if after.status not in STATUSES:
            self._notes.pop(after.id, None)
