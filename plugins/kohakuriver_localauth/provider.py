"""Passwords as argon2id hashes with argon2-cffi's defaults (RFC 9106, low memory). The core keeps them."""

from collections.abc import Mapping
from typing import ClassVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from kohakuriver.hooks.auth import AuthContext, AuthProvider, CanKeepPasswords, Credentials, Identity


class LocalAuth(AuthProvider, CanKeepPasswords):
    """One verification takes about a tenth of a second and 64 MiB; the core's threads bound how many run at once."""

    name: ClassVar[str] = "local"

    async def open(self, ctx: AuthContext) -> None:
        """Costs nothing; the hash that unknown users are compared with is made by the first sign-in."""
        self._in_thread = ctx.in_thread
        self._hasher = PasswordHasher()
        self._nobody: str | None = None

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """The user when the password is right. Somebody without a stored hash costs as much as a wrong password."""
        if self._nobody is None:
            self._nobody = await self.keep("nobody has this password")
        stored = credentials.stored
        right: bool = await self._in_thread(self._verify, stored or self._nobody, credentials.password)
        if not stored or not right:
            return None
        return Identity(provider=self.name, subject=credentials.user, name=credentials.user)

    async def keep(self, password: str) -> str:
        """An argon2id hash with a salt of its own."""
        kept: str = await self._in_thread(self._hasher.hash, password)
        return kept

    def outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def describe(self) -> Mapping[str, str]:
        """A name and a password."""
        return {"title": "Name and password"}

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError, UnicodeError):
            return False
