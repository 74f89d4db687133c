"""What an auth provider is: it tells who somebody is, never what they may do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody, as a provider knows them. (provider, subject) is unique and is bound to one user."""

    provider: str
    subject: str
    name: str
    email: str | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a person or program showed."""

    user: str
    password: str
    #: what the provider stored for this user, if it did
    stored: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class AuthProvider(ABC):
    """Answers who shows these credentials. May be slow: it runs on a bounded pool with a limit of its own."""

    name: ClassVar[str]

    @abstractmethod
    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Who it is, or None. Takes the same time for an unknown user as for a wrong password."""

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """Words for the sign-in page: `title`, and `url` where it redirects."""
