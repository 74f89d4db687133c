"""A terminal in a container, relayed: each side waits for the other, and the program ends when the stream does."""

import asyncio
import contextlib
import logging

from kohakuriver.hooks.environments import Environments, Terminal
from kohakuriver.runner.environments.channel import Channel
from kohakuriver.wire.environments import Shell, ShellEnded
from kohakuriver.wire.frames import Kind, window_of

log = logging.getLogger(__name__)

MOST_READ = 64 * 1024
#: what a program that ended may take to be gone
CLOSE_SECONDS = 30.0


async def shell(environments: Environments, ask: Shell, channel: Channel) -> ShellEnded:
    """Serves a terminal until its program ends. Cancelled, because the stream has ended, it ends the program."""
    channel.stall = None
    terminal = await environments.shell(
        ask.name, ask.argv, columns=max(1, ask.columns), rows=max(1, ask.rows), env=ask.env
    )
    try:
        async with asyncio.TaskGroup() as group:
            typing = group.create_task(_type(terminal, channel))
            while data := await terminal.read(MOST_READ):
                await channel.send_data(data)
            typing.cancel()
        return ShellEnded(code=await terminal.wait())
    except BaseExceptionGroup as group_of_one:
        raise group_of_one.exceptions[0] from None
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await terminal.close()


async def _type(terminal: Terminal, channel: Channel) -> None:
    async for kind, payload in channel.frames():
        if kind is Kind.DATA:
            await terminal.write(payload)
        elif kind is Kind.WINDOW:
            await terminal.resize(*window_of(payload))
