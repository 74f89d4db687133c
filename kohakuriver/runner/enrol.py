"""Joining a cluster once: the token becomes a credential that only this machine keeps."""

import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from kohakuriver.errors import (
    ConfigError,
    Conflict,
    Gone,
    Invalid,
    KohakuRiverError,
    NotAllowed,
    NotSignedIn,
    TooMany,
    Unreachable,
)
from kohakuriver.net.streams import normal
from kohakuriver.wire import codec

FILE = "node.json"
LIMIT = 30.0
CREATED = 201


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What `node.json` keeps, mode 0600."""

    url: str
    fingerprint: str | None = None
    credential: str
    name: str
    cluster: str
    node: str = ""


async def join(host_url: str, fingerprint: str | None, token: str, name: str, data_dir: Path) -> Membership:
    """Trades a one-use token for this node's credential and keeps it.

    Raises Conflict when this directory belongs to a cluster already or the name is in use, Gone for a used or
    expired token, NotSignedIn for a wrong one, Unreachable when the host does not answer or shows another certificate.
    """
    path = data_dir / FILE
    if path.exists():
        raise Conflict(f"{path}: this machine has joined a cluster already; remove the file to join another one")
    url = host_url.rstrip("/")
    answer = await _ask(url, fingerprint, {"token": token, "name": name})
    membership = Membership(
        url=url,
        fingerprint=None if fingerprint is None else normal(fingerprint),
        credential=answer["credential"],
        name=answer.get("name", name),
        cluster=answer["cluster"],
        node=str(answer.get("node", "")),
    )
    save(membership, data_dir)
    return membership


def save(membership: Membership, data_dir: Path) -> None:
    """Writes `node.json`, whole or not at all."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = data_dir / f"{FILE}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
        file.write(codec.encode(membership))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(data_dir / FILE)


def load(data_dir: Path) -> Membership | None:
    """What this machine keeps of its cluster; None before it joined one. Raises ConfigError for an unusable file."""
    path = data_dir / FILE
    try:
        data = path.read_bytes()
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        membership: Membership = codec.decode(data, Membership)
    except KohakuRiverError as error:
        raise ConfigError(f"{path}: {error.message}; remove it and join again") from None
    return membership


def tls(fingerprint: str | None) -> aiohttp.Fingerprint | bool:
    """What aiohttp checks: the pinned certificate, or an authority's word. Raises Invalid for no SHA-256 in hex."""
    if fingerprint is None:
        return True
    try:
        return aiohttp.Fingerprint(bytes.fromhex(normal(fingerprint)))
    except ValueError:
        raise Invalid("not a SHA-256 fingerprint in hex", field="fingerprint", value=fingerprint) from None


async def _ask(url: str, fingerprint: str | None, body: dict[str, str]) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{url}/api/v1/join", json=body, ssl=tls(fingerprint), allow_redirects=False) as response,
        ):
            answer = await response.read()
            status = response.status
    except aiohttp.ServerFingerprintMismatch:
        raise Unreachable(f"{url}: shows another certificate than the pinned one; ask for a new join command") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(f"{url}: {error or 'does not answer'}") from None
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unreachable(f"{url}: answered {status} with something else than JSON; is this the host's address?")
    if status != CREATED or "credential" not in found or "cluster" not in found:
        raise _refusal(status, str(found.get("detail") or found.get("title") or f"answered {status}"))
    return found


def _refusal(status: int, detail: str) -> KohakuRiverError:
    kinds: dict[int, type[KohakuRiverError]] = {
        401: NotSignedIn,
        403: NotAllowed,
        409: Conflict,
        410: Gone,
        422: Invalid,
    }
    if status == 429:
        return TooMany(detail)
    return kinds.get(status, Unreachable)(f"the host refuses to let this node join: {detail}")
