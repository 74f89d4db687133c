"""Opening and asking an auth provider: bounded in time, and its failures are its own. Knows no account."""

import asyncio
import logging

from kohakuriver.errors import KohakuRiverError, PluginError
from kohakuriver.hooks.auth import AuthContext, AuthProvider, Credentials, Identity

log = logging.getLogger(__name__)

SECONDS = 15.0


async def open_provider(kind: type[AuthProvider], ctx: AuthContext) -> AuthProvider:
    """A provider that works. Raises PluginError, also for one that does not come to an end."""
    provider = kind()
    try:
        async with asyncio.timeout(SECONDS):
            await provider.open(ctx)
    except TimeoutError:
        raise PluginError(
            f"auth provider {kind.name} did not open within {SECONDS:g} s; mend it, or name its plugin in"
            " plugins.disabled"
        ) from None
    return provider


async def ask(provider: AuthProvider, shown: Credentials) -> Identity | None:
    """Who it is, or None; also None from a provider that fails, hangs or answers nonsense: the log says so, and the
    others are asked. Raises what a provider says in our own words, such as TooMany.
    """
    try:
        async with asyncio.timeout(SECONDS):
            found: object = await provider.authenticate(shown)
    except KohakuRiverError:
        raise
    except TimeoutError:
        log.warning("an auth provider did not answer in time", extra={"action": "login", "provider": provider.name})
        return None
    # a plugin may fail in any way; the log is told, and whoever signs in is asked for elsewhere
    except Exception:
        log.exception("an auth provider failed", extra={"action": "login", "provider": provider.name})
        return None
    if found is None or isinstance(found, Identity):
        return found
    log.warning(
        "an auth provider answered no identity",
        extra={"action": "login", "provider": provider.name, "answer": type(found).__name__},
    )
    return None
