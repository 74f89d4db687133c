"""What a task waits for before it may start: the end of others. Who looks for them is the host."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Key:
    """One thing that is waited for: a task, or all tasks of a batch."""

    id: int
    batch: bool = False


@dataclass(frozen=True, kw_only=True)
class After:
    """What must have ended before."""

    id: int
    batch: bool = False
    #: however it ends; without it, only a completed one will do
    always: bool = False

    @property
    def key(self) -> Key:
        return Key(id=self.id, batch=self.batch)


def never(task: int, status: str, key: Key) -> str:
    """Why the end of this task makes the start impossible."""
    whole = f" of batch {key.id}" if key.batch else ""
    return f"it was to start after task {task}{whole} had ended well, and that is {status.replace('_', ' ')}"
