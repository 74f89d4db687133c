"""Which contents a node may bring and fetch. A node reads and touches only what is assigned to it (contracts.md §2)."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

from kohakuriver.errors import Conflict, NotFound, TooLarge
from kohakuriver.host.environments.builder import NoBuilder
from kohakuriver.host.host import Host


def missing(host: Host, node: int, digests: Collection[str]) -> list[str]:
    """Those that the host has not got. Raises Invalid, and Conflict unless the node is publishing."""
    contents = host.environments.contents
    _check_publishes(host, node)
    for digest in digests:
        contents.path(digest)
    return [digest for digest in digests if not contents.has(digest)]


async def bring(host: Host, node: int, digest: str, size: int, pieces: AsyncIterator[bytes]) -> None:
    """Takes a content; returns when it is on the disk. Raises Conflict unless the node is publishing."""
    _check_publishes(host, node)
    if size > host.settings.upload_most:
        raise TooLarge(
            f"a content of {size} bytes; at most {host.settings.upload_most}", limit=host.settings.upload_most
        )
    await host.environments.contents.put(digest, size, pieces)


def place(host: Host, node: int, digest: str) -> Path:
    """The file of a content. Raises Invalid, NotFound also for one that the node needs for nothing."""
    path = host.environments.contents.path(digest)
    if not host.environments.contents.has(digest) or not _needs(host, node, digest):
        raise NotFound("there is no such content, or this node needs it for nothing", field="digest", value=digest)
    return path


def _needs(host: Host, node: int, digest: str) -> bool:
    """Whether a task that the node holds runs in a version with this content, or the node is the builder."""
    catalog = host.environments.catalog
    told = (catalog.told(task.spec.container) for task in host.board.on_node(node))
    return _builds(host, node) or any(version is not None and digest in version.blobs for version in told)


def _builds(host: Host, node: int) -> bool:
    try:
        return host.environments.builder().id == node
    except NoBuilder:
        return False


def _check_publishes(host: Host, node: int) -> None:
    if not host.environments.contents.publishes(node):
        raise Conflict("nothing is being published by this node, so it brings no contents")
