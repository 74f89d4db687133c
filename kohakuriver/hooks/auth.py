"""What an auth provider is: it tells who somebody is, never what they may do."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
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
    password: str = field(repr=False)
    #: what the provider stored for this user, if it did
    stored: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuthContext:
    """A provider's surroundings on the host."""

    #: the plugin's own section of the configuration, as plain values
    config: Mapping[str, Any] = field(default_factory=dict)
    #: bounded threads for what blocks: `await ctx.in_thread(function, argument…)`; raises TooMany when all are taken
    in_thread: Callable[..., Awaitable[Any]]


class AuthProvider(ABC):
    """Answers who shows these credentials. May be slow; what blocks runs in `in_thread`."""

    name: ClassVar[str]

    @abstractmethod
    async def open(self, ctx: AuthContext) -> None:
        """Called once before anything else. Raises PluginError only when nothing at all can work."""

    @abstractmethod
    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Who it is, or None. Takes the same time for an unknown user as for a wrong password."""

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """Words for the sign-in page: `title`, and `url` where it redirects."""


class CanKeepPasswords(ABC):
    """A provider whose users choose a password here; the core stores what `keep` returns and shows it again."""

    @abstractmethod
    async def keep(self, password: str) -> str:
        """What to store for this password. Not reversible, different at every call."""

    @abstractmethod
    def outdated(self, stored: str) -> bool:
        """Whether `keep` would do better today; asked after a sign-in that succeeded."""
