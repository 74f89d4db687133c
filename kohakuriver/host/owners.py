"""Names and limits of users by id, kept in memory: they are needed with every task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kohakuriver.domain.limits import Limits
from kohakuriver.store.accounts import User


@dataclass(frozen=True, kw_only=True)
class Person:
    """What is needed of an account besides signing in. A limit that is None is the cluster's default; 0: none."""

    name: str
    most_open: int | None = None
    #: what may be held at once
    most: Limits = field(default_factory=Limits)


def person_of(user: User) -> Person:
    """What is needed of the account with every task."""
    most = Limits(tasks=user.most_running, cores=user.most_cores, memory=user.most_memory, devices=user.most_devices)
    return Person(name=user.name, most_open=user.most_open, most=most)


class Owners(Mapping[int, Limits]):
    """Filled at start, and by `accounts` whenever an account changes. As a mapping: what each may hold at once, of
    those who have a limit.
    """

    def __init__(self, known: Mapping[int, Person] | None = None, defaults: Limits | None = None) -> None:
        """`defaults` for those who have no limit of their own; 0 in it is none."""
        self._defaults = defaults or Limits()
        self._known: dict[int, Person] = {}
        self._limits: dict[int, Limits] = {}
        for user, person in (known or {}).items():
            self.learn(user, person)

    def learn(self, user: int, person: Person) -> None:
        self._known[user] = person
        limits = person.most.over(self._defaults)
        if limits == Limits():
            self._limits.pop(user, None)
        else:
            self._limits[user] = limits

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

    def __getitem__(self, user: int) -> Limits:
        return self._limits[user]

    def __iter__(self) -> Iterator[int]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)
