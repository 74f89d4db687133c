"""Accounts of this cluster with passwords of their own: the built-in auth provider."""

from collections.abc import Sequence

from kohakuriver.hooks.auth import AuthProvider
from kohakuriver.hooks.spec import hookimpl
from kohakuriver.hooks.values import API_VERSION
from kohakuriver_localauth.provider import LocalAuth


@hookimpl
def kohakuriver_api_version() -> int:
    """The version of the contract that this was written for."""
    return API_VERSION


@hookimpl
def kohakuriver_auth_providers() -> Sequence[type[AuthProvider]]:
    """Passwords kept in the store as argon2id hashes."""
    return (LocalAuth,)
