"""Auth providers that fail, hang or answer nonsense: others are asked, and nobody gets in by it."""

import asyncio

import pytest

from kohakuriver.errors import NotSignedIn, PluginError, TooMany
from kohakuriver.hooks.auth import AuthContext, AuthProvider, Identity
from kohakuriver.host import providers, sign_in
from kohakuriver.host.visitors import visitors
from kohakuriver.testing.runners import PATIENCE
from kohakuriver.wire import people

from .people_kit import HERE, PASSWORD, admin, signed_up


class Odd(AuthProvider):
    """Does what it is told."""

    name = "odd"

    def __init__(self, answer):
        self.answer = answer

    async def open(self, ctx): ...

    async def authenticate(self, credentials):
        return await self.answer()

    def describe(self):
        return {"title": "odd"}


async def fails():
    raise RuntimeError("the directory burns")


async def hangs():
    # the time of this one is measured already; ours, asked next, may take its own
    providers.SECONDS = 15.0
    await asyncio.Event().wait()


async def lies():
    return "root"


async def names_a_stranger():
    return Identity(provider="odd", subject="nobody-here", name="root")


@pytest.fixture(params=[fails, hangs, lies], ids=lambda answer: answer.__name__)
async def odd(host, monkeypatch, request):
    """An odd provider is asked before ours."""
    monkeypatch.setattr(providers, "SECONDS", 0.05 if request.param is hangs else 15.0)
    visitors(host).providers.insert(0, Odd(request.param))


async def test_a_broken_provider_keeps_nobody_out(host, odd, caplog):
    await signed_up(host, await admin(host), "ann")
    assert (await sign_in.login(host, people.Login(user="ann", password=PASSWORD), HERE)).cookie
    assert any("auth provider" in record.getMessage() for record in caplog.records)


async def test_a_broken_provider_lets_nobody_in(host, odd):
    await signed_up(host, await admin(host), "ann")
    with pytest.raises(NotSignedIn):
        await sign_in.login(host, people.Login(user="ann", password="wrong"), HERE)


async def test_somebody_whom_only_the_provider_knows_is_nobody_here(host):
    visitors(host).providers.insert(0, Odd(names_a_stranger))
    await admin(host)
    with pytest.raises(NotSignedIn):
        await sign_in.login(host, people.Login(user="root", password="x"), HERE)


async def test_a_provider_without_a_free_thread_is_waited_for(host):
    async def full():
        raise TooMany("all are taken")

    visitors(host).providers.insert(0, Odd(full))
    with pytest.raises(TooMany):
        await sign_in.login(host, people.Login(user="root", password="x"), HERE)


async def test_a_provider_that_does_not_open_stops_the_start_and_is_named(host, monkeypatch):
    class Stuck(Odd):
        def __init__(self):
            super().__init__(hangs)

        async def open(self, ctx):
            await asyncio.Event().wait()

    monkeypatch.setattr(providers, "SECONDS", 0.05)
    with pytest.raises(PluginError, match="auth provider odd did not open"):
        async with asyncio.timeout(PATIENCE):
            await providers.open_provider(Stuck, AuthContext(in_thread=host.threads.password))
