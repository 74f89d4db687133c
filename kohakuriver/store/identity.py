"""What the store knows of itself, in SQL that both databases take."""

from dataclasses import dataclass

ENSURE = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
RAISE_EPOCH = "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'epoch'"
SET = "UPDATE meta SET value = ? WHERE key = ?"
READ = "SELECT key, value FROM meta"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which cluster this is, which life of its data, and which start of its host."""

    #: made once, at the first open
    cluster: str
    #: raised by a restore alone
    incarnation: int
    #: raised at every open; who finds a higher one in the store was replaced
    epoch: int


def first_values(cluster: str) -> list[tuple[str, str]]:
    """The rows of a new store."""
    return [("cluster", cluster), ("incarnation", "1"), ("epoch", "0"), ("program", "")]


def read_identity(rows: dict[str, str]) -> Identity:
    return Identity(cluster=rows["cluster"], incarnation=int(rows["incarnation"]), epoch=int(rows["epoch"]))
