"""A real host on a real store in a directory, and a real server for it on loopback. Only the clock may be a fake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from kohakuriver.domain.access import Actor, How, Role
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.host import accounts
from kohakuriver.host.callers import LOGIN
from kohakuriver.host.clock import Clock, SystemClock
from kohakuriver.host.host import Host
from kohakuriver.host.open import close_host, open_host, run_host
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.tokens import new_token
from kohakuriver.host.users import learn
from kohakuriver.store.accounts import ACTIVE, User, new_user
from kohakuriver.store.open import FILE, open_store
from kohakuriver.web.app import make_runner
from kohakuriver.web.gate import Bounds


@asynccontextmanager
async def opened_host(
    directory: Path, *, clock: Clock | None = None, settings: HostSettings | None = None, loops: bool = False
) -> AsyncIterator[Host]:
    """A host with its accounts opened and every installed plugin; with `loops` it schedules and dispatches too."""
    clock = clock or SystemClock()
    await _lay_empty_store(directory, clock)
    store = await open_store(directory, now=clock.now())
    try:
        async with asyncio.TaskGroup() as group:
            chosen = settings or HostSettings(data_dir=directory, disk_floor=0)
            host = await open_host(chosen, store, clock=clock, group=group, plugins=PluginManager())
            await accounts.open_accounts(host)
            if loops:
                run_host(host)
            try:
                yield host
            finally:
                close_host(host)
    finally:
        await store.close()


_EMPTY: dict[str, bytes] = {}


async def _lay_empty_store(directory: Path, clock: Clock) -> None:
    """Puts the file of an empty store there: making the tables takes far longer than any test with them.

    All hosts of one test run so have the same cluster id.
    """
    path = directory / FILE
    if path.exists():
        return
    if not _EMPTY:
        store = await open_store(directory, now=clock.now())
        await store.close()
        _EMPTY["store"] = path.read_bytes()
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs here yet
    path.write_bytes(_EMPTY["store"])
    path.chmod(0o600)


@asynccontextmanager
async def served(host: Host, bounds: Bounds | None = None) -> AsyncIterator[str]:
    """The host's URL, answered by a real server on a free port of loopback."""
    runner = make_runner(host, bounds)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}"
        host.settings = replace(host.settings, port=port, public_url=url)
        yield url
    finally:
        host.changes.close()
        await runner.cleanup()


async def add_account(host: Host, name: str, role: Role = Role.USER) -> Actor:
    """An active account; its actor, as signed in by password a moment ago."""
    user = User(id=host.ids.next(), name=name, role=role.word, state=ACTIVE, created=host.clock.now())
    await host.store.writer.write([new_user(user)])
    learn(host, user)
    return Actor(id=user.id, name=name, role=role, how=How.SESSION, fresh=True)


async def token_of(host: Host, actor: Actor, *, word: str = LOGIN) -> str:
    """A token of the actor: what a password was exchanged for, or with another word of host/callers.py."""
    token, row = new_token(host, actor.id, "test", word, None)
    await host.store.writer.write([row])
    return str(token)
