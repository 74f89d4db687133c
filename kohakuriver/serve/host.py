"""The composition root of the host, and of the lab, which is host and runner in one process.

A loop that dies takes its role, and with it the process, down. Stopping touches no workload.
"""

import argparse
import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from kohakuriver.config.check import is_loopback
from kohakuriver.config.places import Places
from kohakuriver.config.schema import Config, HostConfig
from kohakuriver.domain.limits import Limits
from kohakuriver.errors import ConfigError, NotReady
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.host import accounts, lab
from kohakuriver.host.clock import SystemClock
from kohakuriver.host.host import Host
from kohakuriver.host.open import close_host, open_host, run_host
from kohakuriver.host.settings import HostSettings
from kohakuriver.net.tls import ensure_certificate, fingerprint, server_context
from kohakuriver.runner.clock import boot_id
from kohakuriver.runner.enrol import FILE as MEMBERSHIP
from kohakuriver.runner.enrol import join
from kohakuriver.runner.enrol import load as load_membership
from kohakuriver.serve.node import runner_role, runner_settings
from kohakuriver.serve.process import in_group, run, say
from kohakuriver.store.open import open_store
from kohakuriver.web.app import make_runner

log = logging.getLogger(__name__)

#: a lease outlives so many heartbeats that went missing
BEATS_IN_A_LEASE = 4


def main(args: argparse.Namespace) -> int:
    """`--role host` and `--role all`."""
    return run(args, _lab_up if args.role == "all" else _host_up)


@contextlib.asynccontextmanager
async def _host_up(config: Config, plugins: PluginManager, stop: asyncio.Event) -> AsyncIterator[None]:
    del stop
    async with _host_role(config, plugins) as (host, url):
        await _announce(host, url)
        yield


@contextlib.asynccontextmanager
async def _lab_up(config: Config, plugins: PluginManager, stop: asyncio.Event) -> AsyncIterator[None]:
    async with _host_role(config, plugins) as (host, url), _local_runner(config, plugins, host, url, stop):
        places = Places.here()
        folder = places.var if places.root else places.config_dir
        await accounts.lab_token(host, folder / "lab.json", url=url)
        await _announce(host, url)
        yield


@contextlib.asynccontextmanager
async def _host_role(config: Config, plugins: PluginManager) -> AsyncIterator[tuple[Host, str]]:
    listener = _bind(config.host)
    store = None
    try:
        settings, context = _host_settings(config.host)
        settings = _with_port(settings, config.host, listener.getsockname()[1])
        clock = SystemClock()
        store = await open_store(config.host.database or config.host.data_dir, now=clock.now())
        async with in_group() as group:
            host = await open_host(settings, store, clock=clock, group=group, plugins=plugins)
            await accounts.open_accounts(host)
            server = make_runner(host)
            await server.setup()
            await web.SockSite(server, listener, ssl_context=context, backlog=1024).start()
            run_host(host)
            try:
                yield host, settings.public_url
            finally:
                close_host(host)
                await server.cleanup()
    finally:
        if store is not None:
            await store.close()
        listener.close()


def _bind(config: HostConfig) -> socket.socket:
    """The socket, bound and not yet listening, so that a port in use is said before anything else happens."""
    address, port = config.host_bind_ip, config.host_port
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], found[1], found[2])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
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
        most_held=Limits(
            tasks=config.max_running_tasks_per_user,
            cores=config.max_cores_per_user,
            memory=config.max_memory_per_user,
            devices=config.max_gpus_per_user,
        ),
        placement=config.placement,
        default_grace=config.default_grace,
        heartbeat=config.heartbeat_interval_seconds,
        lost_after=config.lost_after or None,
        lease=max(config.lease, math.ceil(BEATS_IN_A_LEASE * config.heartbeat_interval_seconds)),
        lease_margin=config.lease_margin,
        output_days=config.output_retention_days,
        disk_floor=config.disk_floor,
        environment_syncer=config.environment_syncer,
        builder=config.builder,
        environment_versions_kept=config.environment_versions_kept,
        default_container_name=config.default_container_name,
        initial_base_image=config.initial_base_image,
        upload_most=config.environment_upload_most,
        boot=_boot_id(),
        rate=config.rate_limit_per_second,
        burst=config.rate_limit_burst,
    )
    return settings, context


def _boot_id() -> str:
    """The name of this machine's boot, by which its own runner is known; "" where the kernel does not tell."""
    found = boot_id()
    return "" if found == "unknown" else found


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
    settings = runner_settings(config, plugins, membership, lab=True, url=url)
    async with runner_role(settings, plugins, stop):
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


async def _announce(host: Host, url: str) -> None:
    """What a person who just started it needs to know."""
    secret = await accounts.first_secret(host)
    pin = host.settings.fingerprint
    if secret is not None:
        pinned = f" --fingerprint {pin}" if pin else ""
        say(f"first admin: kohakuriver --url {url}{pinned} auth setup    one-time secret: {secret}")
    if pin:
        say(f"certificate: sha256:{pin}")
    say(f"ready: {url}")
