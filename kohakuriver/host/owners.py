"""Names and limits of users by id, kept in memory: they are needed with every task."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Person:
    """What is needed of an account besides signing in. `most_open` None: the cluster's default; 0: no limit."""

    name: str
    most_open: int | None = None


class Owners:
    """Filled at start, and by `accounts` whenever an account changes."""

    def __init__(self, known: Mapping[int, Person] | None = None) -> None:
        self._known = dict(known or {})

    def learn(self, user: int, person: Person) -> None:
        self._known[user] = person

    def name(self, user: int) -> str:
        person = self._known.get(user)
        return str(user) if person is None else person.name

    def most_open(self, user: int, default: int) -> int:
        """Most open tasks of the user; 0 is no limit."""
        person = self._known.get(user)
        return default if person is None or person.most_open is None else person.most_open

    def find(self, name: str) -> int | None:
        """The id of the user of that name."""
        return next((user for user, person in self._known.items() if person.name == name), None)
