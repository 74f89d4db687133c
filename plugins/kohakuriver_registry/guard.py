"""Where a registry may send us: never to this machine, nor to the address at which clouds tell secrets.

The registry itself may be anywhere, for an operator has named it.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from kohakuriver.errors import PluginError

#: of clouds whose metadata service is not on a link-local address
METADATA = {ip_address("fd00:ec2::254"), ip_address("100.100.100.200"), ip_address("192.0.0.192")}


def is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    """Whether nobody may send us there."""
    plain = getattr(address, "ipv4_mapped", None) or address
    return (
        plain in METADATA
        or plain.is_loopback
        or plain.is_link_local
        or plain.is_unspecified
        or plain.is_multicast
        or plain.is_reserved
    )


def check_host(host: str, registry: str) -> None:
    """Raises PluginError for a host that is a forbidden address, unless it is the registry's own."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return  # a name: looked at when it is resolved
    if host != registry and is_forbidden(address):
        raise PluginError(f"the registry sends us to {host}: nobody is sent there")


class GuardedResolver(AbstractResolver):
    """Resolves names, and leaves out addresses where nobody may send us; of the registry's own name, none."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host == self._registry:
            return found
        allowed = [one for one in found if not is_forbidden(ip_address(one["host"].partition("%")[0]))]
        if not allowed:
            raise OSError(None, f"the registry sends us to {host}, which is this machine or its metadata")
        return allowed

    async def close(self) -> None:
        await self._inner.close()
