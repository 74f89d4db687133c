"""The built-in auth provider keeps the contract, and its hashes are argon2id."""

import asyncio

import pytest
from argon2 import PasswordHasher
from kohakuriver_localauth.provider import LocalAuth

from kohakuriver.hooks.auth import AuthContext, Credentials
from kohakuriver.testing.contracts.auth import AuthContract, AuthKit


class TestLocalAuth(AuthContract):
    @pytest.fixture
    def kit(self):
        return AuthKit(provider=LocalAuth, known=("anna", "correct horse Battery"))


@pytest.fixture
async def provider():
    opened = LocalAuth()
    await opened.open(AuthContext(in_thread=asyncio.to_thread))
    return opened


async def test_hashes_are_argon2id_and_weaker_ones_are_outdated(provider):
    kept = await provider.keep("correct horse")
    assert kept.startswith("$argon2id$")
    weaker = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
    assert provider.outdated(weaker)
    assert await provider.authenticate(Credentials(user="anna", password="correct horse", stored=weaker))


async def test_an_unknown_user_costs_as_many_verifications_as_a_known_one():
    calls = []

    async def in_thread(function, *arguments):
        calls.append(function.__name__)
        return await asyncio.to_thread(function, *arguments)

    provider = LocalAuth()
    await provider.open(AuthContext(in_thread=in_thread))
    kept = await provider.keep("correct horse")
    for _ in range(2):
        calls.clear()
        await provider.authenticate(Credentials(user="nobody", password="x"))
    unknown = list(calls)
    calls.clear()
    await provider.authenticate(Credentials(user="anna", password="x", stored=kept))
    assert unknown == calls == ["_verify"]
