"""The composition root: a role and its configuration become parts, each role in one TaskGroup.

A loop that dies takes its role, and with it the process, down. Stopping touches no workload.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from kohakuriver.config.check import is_loopback
from kohakuriver.config.load import Role, load
from kohakuriver.config.logs import set_up
from kohakuriver.config.places import Places
from kohakuriver.config.schema import Config, HostConfig, RunnerConfig
from kohakuriver.errors import ConfigError, KohakuRiverError, NotReady
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.host import accounts, lab
from kohakuriver.host.clock import SystemClock
from kohakuriver.host.host import Host
from kohakuriver.host.open import close_host, open_host, run_host
from kohakuriver.host.settings import HostSettings
from kohakuriver.net.notify import Notifier
from kohakuriver.net.process import run_command
from kohakuriver.net.tls import ensure_certificate, fingerprint, server_context
from kohakuriver.runner.enrol import FILE as MEMBERSHIP
from kohakuriver.runner.enrol import Membership, join
from kohakuriver.runner.enrol import load as load_membership
from kohakuriver.runner.runner import Runner
from kohakuriver.runner.settings import OutputLimits, RunnerSettings
from kohakuriver.store.open import open_store
from kohakuriver.web.app import make_runner

log = logging.getLogger(__name__)

#: seconds that open requests have to end
SHUTDOWN = 5.0
#: new objects before a collection, collections before an older generation's (gc.set_threshold)
COLLECT = (10_000, 20, 20)
#: a second signal ends the process at once with this code
AT_ONCE = 130


class StopRequested(Exception):
    """The way out of a role's TaskGroup: its tasks are cancelled, and the role has ended well."""


def main(args: argparse.Namespace) -> int:
    """Serves until a signal; 0 after a clean end. Raises ConfigError before any side effect."""
    role: Role = args.role
    loaded = load(role, file=Path(args.config) if args.config else None, flags=_flags(args))
    config = loaded.config
    logs = config.runner if role == "runner" else config.host
    set_up(logs.log_level, logs.log_format)
    notifier = Notifier.take(os.environ, os.getpid())
    try:
        asyncio.run(_serve(role, config, notifier))
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return 0


def _first(error: BaseException) -> BaseException:
    """What a role died of: a sentence for the person who started it, where there is one."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup(KohakuRiverError)
        error = (known or error).exceptions[0]
    return error


def join_cluster(url: str, pin: str | None, token: str, name: str, data_dir: Path) -> Membership:
    """This machine becomes a node: trades a one-use token for its credential. Raises what `runner.enrol.join` does."""
    return asyncio.run(join(url, pin, token, name, data_dir))


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


async def _serve(role: Role, config: Config, notifier: Notifier) -> None:
    stop = asyncio.Event()
    _on_signals(stop)
    plugins = PluginManager(disabled=config.plugins.disabled)
    async with contextlib.AsyncExitStack() as stack:
        if role in {"host", "all"}:
            host, url = await stack.enter_async_context(_host_role(config, plugins))
            if role == "all":
                await stack.enter_async_context(_local_runner(config, plugins, host, url, stop))
            await _announce(host, url, role)
        else:
            membership = load_membership(config.runner.data_dir)
            if membership is None:
                raise ConfigError(
                    f"this machine belongs to no cluster yet ({config.runner.data_dir}): an admin runs "
                    "`kohakuriver node token NAME` and gives you the command that joins it"
                )
            settings = _runner_settings(config, plugins, membership, lab=False)
            await stack.enter_async_context(_runner_role(settings, plugins, stop))
            _say(f"ready: runner {membership.name} of {settings.host_url}")
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
async def _in_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A role's TaskGroup: leaving the block cancels what still runs in it; a task that fails ends the block."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
            _leave()
    except* StopRequested:
        pass


def _leave() -> None:
    raise StopRequested


@contextlib.asynccontextmanager
async def _host_role(config: Config, plugins: PluginManager) -> AsyncIterator[tuple[Host, str]]:
    settings, context = _host_settings(config.host)
    clock = SystemClock()
    store = await open_store(config.host.database or config.host.data_dir, now=clock.now())
    try:
        async with _in_group() as group:
            listener = _listen(config.host)
            port = listener.getsockname()[1]
            settings = _with_port(settings, config.host, port)
            host = await open_host(settings, store, clock=clock, group=group, plugins=plugins)
            await accounts.open_accounts(host)
            server = make_runner(host)
            await server.setup()
            await web.SockSite(server, listener, ssl_context=context).start()
            run_host(host)
            try:
                yield host, settings.public_url
            finally:
                close_host(host)
                await server.cleanup()
    finally:
        await store.close()


def _listen(config: HostConfig) -> socket.socket:
    """The listening socket, so that a port in use is said before anything else happens."""
    address, port = config.host_bind_ip, config.host_port
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], found[1], found[2])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
        listener.listen(1024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address} port {port}: {error.strerror or error}; choose another with --port",
            field="host.host_port",
            value=port,
        ) from None
    listener.setblocking(False)
    return listener


def _host_settings(config: HostConfig) -> tuple[HostSettings, ssl.SSLContext | None]:
    """What the host is told; makes its certificate when it speaks beyond loopback and was given none."""
    loopback = is_loopback(config.host_bind_ip)
    certificate, key, context, pin = config.tls_cert, config.tls_key, None, None
    if certificate is None and not loopback and not config.insecure:
        names = ["localhost", socket.gethostname(), *_addresses(config)]
        certificate, key = ensure_certificate(config.data_dir, names, SystemClock().now())
    if certificate is not None and key is not None:
        context, pin = server_context(certificate, key), fingerprint(certificate)
    elif not loopback:
        log.warning("plain HTTP beyond loopback: everybody on the way can read and steal sign-ins")
    scheme = "http" if context is None else "https"
    settings = HostSettings(
        bind=config.host_bind_ip,
        port=config.host_port,
        public_url=config.public_url or f"{scheme}://{_reachable(config.host_bind_ip)}",
        data_dir=config.data_dir,
        auth=config.auth_enabled,
        fingerprint=pin,
        session_most=config.session_expire_hours * 3600,
        session_idle=min(12, config.session_expire_hours) * 3600,
        token_days=config.token_expire_days,
        approve_users=config.approve_users,
        most_open=config.max_open_tasks_per_user,
        default_grace=config.default_grace,
        heartbeat=config.heartbeat_interval_seconds,
        lost_after=config.lost_after or None,
        output_days=config.output_retention_days,
        disk_floor=config.disk_floor,
        rate=config.rate_limit_per_second,
        burst=config.rate_limit_burst,
    )
    return settings, context


def _addresses(config: HostConfig) -> list[str]:
    address = config.host_bind_ip
    return [] if address in {"0.0.0.0", "::"} else [address]  # noqa: S104


def _reachable(address: str) -> str:
    """How others reach an address that is listened on; the machine's name stands for all of its addresses."""
    if address in {"0.0.0.0", "::"}:  # noqa: S104
        return socket.getfqdn()
    return f"[{address}]" if ":" in address else address


def _with_port(settings: HostSettings, config: HostConfig, port: int) -> HostSettings:
    url = settings.public_url if config.public_url else f"{settings.public_url}:{port}"
    return replace(settings, port=port, public_url=url)


@contextlib.asynccontextmanager
async def _local_runner(
    config: Config, plugins: PluginManager, host: Host, url: str, stop: asyncio.Event
) -> AsyncIterator[None]:
    """The lab's own runner: joins over loopback like any other, once, and follows the host's port."""
    membership = load_membership(config.runner.data_dir)
    if membership is None or not await lab.is_enrolled(host, membership.credential):
        (config.runner.data_dir / MEMBERSHIP).unlink(missing_ok=True)
        name, token = await lab.join_token(host, config.runner.name or lab.node_name(socket.gethostname()))
        membership = await join(url, host.settings.fingerprint, token, name, config.runner.data_dir)
    settings = _runner_settings(config, plugins, membership, lab=True, url=url)
    async with _runner_role(settings, plugins, stop):
        await _online(host, membership.name)
        yield


async def _online(host: Host, name: str) -> None:
    """Waits for the first session of the lab's own runner. Raises NotReady."""
    try:
        async with asyncio.timeout(30):
            with host.changes.subscribe() as changes:
                while (member := host.roster.named(name)) is None or not member.connected:
                    await changes.next()
    except TimeoutError:
        raise NotReady("the runner of this machine did not come up; its log says why") from None


def _runner_settings(
    config: Config, plugins: PluginManager, membership: Membership, *, lab: bool, url: str = ""
) -> RunnerSettings:
    """What the runner is told. In the lab every backend is on unless its own section says otherwise."""
    everywhere = {"enabled": True} if lab else {}
    runner: RunnerConfig = config.runner
    sections = config.plugins.sections
    return RunnerSettings(
        data_dir=runner.data_dir,
        host_url=url or runner.host_url or membership.url,
        fingerprint=membership.fingerprint,
        credential=membership.credential,
        name=membership.name,
        cluster=membership.cluster,
        shared_dir=runner.shared_dir,
        reserved_cores=runner.reserved_cores,
        reserved_memory=runner.reserved_memory,
        pinnable_cpus=runner.pinnable_cpus or None,
        local_temp_dir=runner.local_temp_dir,
        labels=runner.labels,
        backend_config={name: {**everywhere, **sections.get(name, {})} for name in {*sections, *plugins.backends()}},
        output=OutputLimits(head=runner.output_head, tail=runner.output_tail),
    )


@contextlib.asynccontextmanager
async def _runner_role(settings: RunnerSettings, plugins: PluginManager, stop: asyncio.Event) -> AsyncIterator[Runner]:
    async with _in_group() as group:
        backends = [kind() for kind in plugins.backends().values()]
        runner = Runner(settings, backends, run_command=run_command)
        running = group.create_task(runner.run())
        running.add_done_callback(lambda _: stop.set())
        try:
            yield runner
        finally:
            runner.stop()
            await asyncio.wait([running], timeout=SHUTDOWN)


async def _announce(host: Host, url: str, role: Role) -> None:
    """What a person who just started it needs to know."""
    if role == "all":
        places = Places.here()
        folder = places.var if places.root else places.config_dir
        await accounts.lab_token(host, folder / "lab.json", url=url)
    secret = await accounts.first_secret(host)
    pin = host.settings.fingerprint
    if secret is not None:
        pinned = f" --fingerprint {pin}" if pin else ""
        _say(f"first admin: kohakuriver --url {url}{pinned} auth setup    one-time secret: {secret}")
    if pin:
        _say(f"certificate: sha256:{pin}")
    _say(f"ready: {url}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
