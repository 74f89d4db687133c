"""Group commit: one transaction for many members, in which a member that fails is undone alone (contracts.md §3)."""

import logging
from collections.abc import Sequence
from typing import Protocol

from kohakuriver.errors import KohakuRiverError, StoreError
from kohakuriver.store.write import ConstraintFailed, Outcome, Statement, WrongCount

log = logging.getLogger(__name__)


class BatchFailed(Exception):
    """Nothing of this commit was stored; everybody in it is told `error`."""

    def __init__(self, error: KohakuRiverError) -> None:
        super().__init__(str(error))
        self.error = error


class Connection(Protocol):
    """The one read-write connection, used by the writer's thread alone.

    Every method raises BatchFailed when the whole transaction is lost; `execute` raises another KohakuRiverError when
    only its statement failed.
    """

    def begin(self) -> str:
        """Opens a transaction and returns the epoch that stands in the store, held until the end."""
        ...

    def mark(self) -> None:
        """Everything after this can be undone alone."""
        ...

    def release(self) -> None:
        """Forgets the mark."""
        ...

    def back_to_mark(self) -> None:
        """Undoes what was done since the mark, and keeps the mark."""
        ...

    def execute(self, statement: Statement) -> int:
        """Runs it and returns the number of rows."""
        ...

    def commit(self) -> None:
        """Returns when the transaction is on the disk."""
        ...

    def rollback(self) -> None:
        """Undoes the transaction if there is one. Never raises."""
        ...

    def close(self) -> None: ...


class Group:
    """Commits members through one connection, as long as the epoch in the store is ours."""

    def __init__(self, connection: Connection, epoch: str) -> None:
        self._connection = connection
        self._epoch = epoch

    def outcomes(self, members: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """What became of each member. Never raises: a failed commit is everybody's StoreError or StorageFull."""
        try:
            return self._commit(members)
        except BatchFailed as failed:
            error = failed.error
            log.error("commit failed: %s", error, extra={"action": "store_commit", "members": len(members)})  # noqa: TRY400
        # a fault of ours: everybody in this commit is told, and the writer goes on
        except Exception as failure:
            error = StoreError(f"the store failed: {type(failure).__name__}: {failure}")
            log.exception("commit failed", extra={"action": "store_commit", "members": len(members)})
        self._connection.rollback()
        return [type(error)(error.message) for _ in members]

    def close(self) -> None:
        self._connection.close()

    def _commit(self, members: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """Without marks first: each copies aside the pages that change after it, which costs more than the statements.
        Only when a member fails is everything done again with a mark before each.
        """
        self._begin()
        try:
            outcomes: list[Outcome] = [_apply(self._connection, statements) for statements in members]
        except KohakuRiverError as error:
            self._connection.rollback()
            return [error] if len(members) == 1 else self._commit_marked(members)
        self._connection.commit()
        return outcomes

    def _commit_marked(self, members: Sequence[Sequence[Statement]]) -> list[Outcome]:
        connection = self._connection
        self._begin()
        outcomes: list[Outcome] = []
        for statements in members:
            connection.mark()
            try:
                outcomes.append(_apply(connection, statements))
            except KohakuRiverError as error:
                connection.back_to_mark()
                outcomes.append(error)
            connection.release()
        connection.commit()
        return outcomes

    def _begin(self) -> None:
        epoch = self._connection.begin()
        if epoch != self._epoch:
            raise BatchFailed(
                StoreError(f"another host took the store over (epoch {epoch}, ours is {self._epoch}); stop this one")
            )


def _apply(connection: Connection, statements: Sequence[Statement]) -> tuple[int, ...]:
    counts: list[int] = []
    for index, statement in enumerate(statements):
        try:
            count = connection.execute(statement)
        except ConstraintFailed as error:
            error.index = index
            raise
        except (KohakuRiverError, BatchFailed):
            raise
        # a value that the driver chokes on in a way of its own: its sender is told, the others are not hurt
        except Exception as error:
            log.exception("statement failed", extra={"action": "store_statement", "what": statement.what})
            raise StoreError(f"{statement.what}: {type(error).__name__}: {error}") from error
        if statement.expect is not None and count != statement.expect:
            raise WrongCount(statement, count, index)
        counts.append(count)
    return tuple(counts)
