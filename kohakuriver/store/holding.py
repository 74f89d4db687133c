"""What an owner's attempts may hold at once, as a condition of the commit that reserves more for them."""

from kohakuriver.domain.limits import Limits
from kohakuriver.domain.resources import MILLI
from kohakuriver.store.columns import table_of
from kohakuriver.store.models import ReservationRow, TaskRow, UserRow
from kohakuriver.store.write import Statement, Value


def within(owner: int, limits: Limits) -> Statement:
    """Fails the commit with WrongCount if the owner would hold more; behind the rows that reserve.

    Before them in the same list, `lock` the owner's row: two writers on PostgreSQL would otherwise both count without
    the other's rows.
    """
    parts: list[str] = []
    values: list[Value] = []
    for amount, most in (
        ("COUNT(*) - COUNT(r.device)", limits.tasks),
        ("COALESCE(SUM(r.cpu_milli), 0)", None if limits.cores is None else limits.cores * MILLI),
        ("COALESCE(SUM(r.memory), 0)", limits.memory),
        ("COUNT(r.device)", limits.devices),
    ):
        if most is not None:
            parts.append(f"{amount} <= CAST(? AS BIGINT)")
            values.append(most)
    sums = (
        f'SELECT {" AND ".join(parts)} FROM "{table_of(ReservationRow)}" r '  # noqa: S608
        f'JOIN "{table_of(TaskRow)}" t ON t.id = r.task_id WHERE t.owner_id = ?'
    )
    sql = f'UPDATE "{table_of(UserRow)}" SET id = id WHERE id = ? AND ({sums})'  # noqa: S608
    return Statement(sql, ((owner, *values, owner),), 1, f"what user {owner} may hold")
