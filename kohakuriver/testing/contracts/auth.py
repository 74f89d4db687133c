"""Every rule of `hooks/auth.py` as a test. Bind it with a subclass that has a fixture `kit`:

class TestMine(AuthContract):
    @pytest.fixture
    def kit(self): return AuthKit(provider=Mine, known=("anna", "her password"))
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from kohakuriver.hooks.auth import AuthContext, AuthProvider, CanKeepPasswords, Credentials

STRANGE = ("", " ", "\0", "a" * 300, "ä", "../..", "*", "anna)(uid=*", "{{7*7}}", "'; --", "\ud800")


@dataclass(frozen=True, kw_only=True)
class AuthKit:
    """A provider and somebody whom it knows, by name and password."""

    provider: type[AuthProvider]
    known: tuple[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)


class AuthContract:
    """The suite."""

    @pytest.fixture
    async def provider(self, kit: AuthKit) -> AuthProvider:
        """Opened, as the host does it."""
        provider = kit.provider()
        await provider.open(AuthContext(config=kit.config, in_thread=asyncio.to_thread))
        return provider

    @pytest.fixture
    async def stored(self, kit: AuthKit, provider: AuthProvider) -> str | None:
        """What the host keeps for the known user."""
        return await provider.keep(kit.known[1]) if isinstance(provider, CanKeepPasswords) else None

    async def test_the_right_password_names_its_user(
        self, kit: AuthKit, provider: AuthProvider, stored: str | None
    ) -> None:
        user, password = kit.known
        for _ in range(2):
            found = await provider.authenticate(Credentials(user=user, password=password, stored=stored))
            assert found is not None
            assert (found.provider, found.name) == (provider.name, user)
            assert found.subject

    async def test_anything_else_is_nobody_and_no_error(
        self, kit: AuthKit, provider: AuthProvider, stored: str | None
    ) -> None:
        user, password = kit.known
        wrong = [(user, text) for text in (*STRANGE, password + " ", password[:-1], password.swapcase())]
        for name, text in [*wrong, *((name, text) for name in STRANGE for text in ("", "x"))]:
            kept = stored if name == user else None
            assert await provider.authenticate(Credentials(user=name, password=text, stored=kept)) is None

    async def test_a_stranger_with_a_known_password_is_nobody(self, kit: AuthKit, provider: AuthProvider) -> None:
        assert await provider.authenticate(Credentials(user="stranger", password=kit.known[1])) is None

    async def test_it_describes_itself_for_people(self, provider: AuthProvider) -> None:
        assert provider.describe()["title"]

    async def test_what_is_kept_is_not_the_password(self, kit: AuthKit, provider: AuthProvider) -> None:
        if not isinstance(provider, CanKeepPasswords):
            return
        first, second = await provider.keep(kit.known[1]), await provider.keep(kit.known[1])
        assert first != second
        assert kit.known[1] not in first
        assert not provider.outdated(first)

    async def test_what_was_spoiled_in_the_store_is_nobody(self, kit: AuthKit, provider: AuthProvider) -> None:
        if not isinstance(provider, CanKeepPasswords):
            return
        user, password = kit.known
        for spoiled in ("", "nonsense", "$argon2id$", "\0"):
            assert await provider.authenticate(Credentials(user=user, password=password, stored=spoiled)) is None
