"""What both roles share as processes: flags, signals, logs, and the way to the end. Knows neither host nor runner."""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from kohakuriver.config.load import Role, load
from kohakuriver.config.logs import set_up
from kohakuriver.config.schema import Config
from kohakuriver.errors import KohakuRiverError
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.net.notify import Notifier

#: new objects before a collection, collections before an older generation's (gc.set_threshold)
COLLECT = (10_000, 20, 20)
#: a second signal ends the process at once with this code
AT_ONCE = 130

#: a role that is up inside the block and has said so; it sets the event when it can serve no longer
Up = Callable[[Config, PluginManager, asyncio.Event], AbstractAsyncContextManager[None]]


class StopRequested(Exception):
    """The way out of a role's TaskGroup: its tasks are cancelled, and the role has ended well."""


def run(args: argparse.Namespace, up: Up) -> int:
    """Serves until a signal; 0 after a clean end. Raises ConfigError before any side effect."""
    role: Role = args.role
    loaded = load(role, file=Path(args.config) if args.config else None, flags=_flags(args))
    config = loaded.config
    logs = config.runner if role == "runner" else config.host
    set_up(logs.log_level, logs.log_format)
    notifier = Notifier.take(os.environ, os.getpid())
    try:
        asyncio.run(_serve(up, config, notifier))
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return 0


def _first(error: BaseException) -> BaseException:
    """What a role died of: a sentence for the person who started it, where there is one."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup(KohakuRiverError)
        error = (known or error).exceptions[0]
    return error


def _flags(args: argparse.Namespace) -> dict[str, object]:
    folder = None if args.data_dir is None else Path(args.data_dir).absolute()
    both = args.role == "all"
    flags: dict[str, object] = {
        "host.host_bind_ip": args.bind,
        "host.host_port": args.port,
        "host.data_dir": folder / "host" if folder and both else folder,
        "host.insecure": args.insecure,
        "host.auth_enabled": None if args.no_auth is None else not args.no_auth,
        "host.log_level": args.log_level,
        "runner.host_url": args.url,
        "runner.name": args.name,
        "runner.data_dir": folder / "runner" if folder and both else folder,
        "runner.log_level": args.log_level,
    }
    section = {"host": ("host.",), "runner": ("runner.",)}.get(args.role, ("host.", "runner."))
    return {key: value for key, value in flags.items() if key.startswith(section)}


async def _serve(up: Up, config: Config, notifier: Notifier) -> None:
    stop = asyncio.Event()
    _on_signals(stop)
    async with up(config, PluginManager(disabled=config.plugins.disabled), stop):
        _settle_memory()
        notifier.ready()
        await _until(stop, notifier)
        notifier.stopping()


def _settle_memory() -> None:
    """What stands now stays: the collector need not look at it again, nor so often at what comes (gc.freeze)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def _on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT asks to stop, a second ends the process at once."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(AT_ONCE)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)


async def _until(stop: asyncio.Event, notifier: Notifier) -> None:
    """Waits for the signal, telling a watchdog that the loop turns."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(notifier.period):
                await stop.wait()
        except TimeoutError:
            notifier.alive()


@contextlib.asynccontextmanager
async def in_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A role's TaskGroup: leaving the block cancels what still runs in it; a task that fails ends the block."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
            _leave()
    except* StopRequested:
        pass


def _leave() -> None:
    raise StopRequested


def say(text: str) -> None:
    """A line for the person who started it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
