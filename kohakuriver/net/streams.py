"""The client half of a raw stream: an HTTP/1.1 upgrade (RFC 9110 §7.8), after which both directions are bytes."""

import asyncio
import functools
import hashlib
import hmac
import socket
import ssl
from urllib.parse import urlsplit, urlunsplit

from kohakuriver.errors import Unreachable
from kohakuriver.wire.link import STREAM_PROTOCOL

SWITCHING = 101
#: seconds of silence before the other end is asked for a sign of life, then between questions, and how many
KEEPALIVE_IDLE = 20
KEEPALIVE_EVERY = 5
KEEPALIVE_PROBES = 6


def client_tls(fingerprint: str | None) -> ssl.SSLContext:
    """TLS for a host that is known by its certificate's fingerprint, or by an authority if there is none.

    With a fingerprint nothing is proven before `check_fingerprint` was called, and no authority is loaded: reading them
    all takes tens of milliseconds, in which the event loop stands still.
    """
    if fingerprint is None:
        return _by_authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def _by_authority() -> ssl.SSLContext:
    return ssl.create_default_context()


def check_fingerprint(certificate: bytes | None, fingerprint: str) -> None:
    """Raises Unreachable when the certificate (DER) is not the pinned one."""
    found = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(found, normal(fingerprint)):
        raise Unreachable(
            f"the host shows another certificate (sha256 {found[:16]}…) than the pinned one; join this node again"
        )


def normal(fingerprint: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hex digits, however it was written."""
    return fingerprint.lower().removeprefix("sha256:").replace(":", "").strip()


async def open_stream(
    url: str, *, credential: str, fingerprint: str | None = None, limit: float = 10.0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects, upgrades and returns the two halves. Raises Unreachable with the reason; nothing stays open then."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=client_tls(fingerprint) if secure else None,
            )
            try:
                if secure and fingerprint is not None:
                    check_fingerprint(writer.get_extra_info("ssl_object").getpeercert(binary_form=True), fingerprint)
                tune(writer.get_extra_info("socket"))
                path = urlunsplit(("", "", parts.path, parts.query, ""))
                await _upgrade(reader, writer, host=parts.netloc, path=path, credential=credential)
            except BaseException:
                writer.transport.abort()
                raise
    except (OSError, TimeoutError, EOFError) as error:
        raise Unreachable(f"no stream to the host: {error or 'it took too long'}") from None
    return reader, writer


async def _upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str, path: str, credential: str
) -> None:
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {STREAM_PROTOCOL}\r\n"
        f"Authorization: Bearer {credential}\r\n\r\n".encode("ascii")
    )
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Unreachable("the host's answer to the upgrade is too long") from None
    version, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.1") or status != str(SWITCHING):
        raise Unreachable(f"the host refuses the stream: {rest or version}")
    if f"upgrade: {STREAM_PROTOCOL}" not in head.decode("latin-1").lower():
        raise Unreachable("the host upgraded to another protocol")


def tune(sock: socket.socket | None) -> None:
    """No delay; and an end that vanished without a word, as in a power cut, is noticed by the kernel within a minute
    (tcp(7)): a stream outlives the link, and nobody else would ever tell who waits for its bytes.
    """
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
