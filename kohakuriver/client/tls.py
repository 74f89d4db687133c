"""TLS for a client: a pinned SHA-256 fingerprint, a CA file, or the system's authorities."""

import hashlib
import hmac
import socket
import ssl

from kohakuriver.errors import ConfigError, Invalid, Unreachable

DIGITS = 64


def parse_fingerprint(text: str) -> str:
    """64 hex digits in lower case. Takes colons, spaces and a leading `sha256:`. Raises Invalid."""
    digits = text.strip().lower().removeprefix("sha256").replace(":", "").replace(" ", "").removeprefix("=")
    if len(digits) != DIGITS or set(digits) - set("0123456789abcdef"):
        raise Invalid(
            "this is not a SHA-256 fingerprint",
            field="fingerprint",
            value=text,
            limit=f"{DIGITS} hex digits, with or without colons",
        )
    return digits


def make_context(*, pinned: bool, ca_file: str | None) -> ssl.SSLContext:
    """What to wrap a socket with. With `pinned` the caller must call `check_pin` before it sends anything."""
    try:
        context = ssl.create_default_context(cafile=None if pinned else ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the CA file {ca_file} cannot be used: {error}", field="ca_file", value=ca_file) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of(wrapped: ssl.SSLSocket) -> str:
    """SHA-256 of the certificate that the other side showed."""
    return hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()


def check_pin(wrapped: ssl.SSLSocket, pinned: str) -> None:
    """Raises Unreachable when the other side is not the one whose fingerprint is known."""
    shown = fingerprint_of(wrapped)
    if not hmac.compare_digest(shown, pinned):
        raise Unreachable(
            "the host shows another certificate than the known one: either it was renewed, or somebody stands between; "
            "compare with its administrator, then: kohakuriver auth login --fingerprint NEW",
            field="fingerprint",
            value=shown,
            limit=pinned,
        )


def look_at(host: str, port: int, *, timeout: float) -> str:
    """The fingerprint that the other side shows, to be compared by a person; nothing is sent to it.

    Raises OSError when it does not answer or does not speak TLS.
    """
    with socket.create_connection((host, port), timeout) as plain:
        name = host if any(c.isalpha() for c in host) else None
        with make_context(pinned=True, ca_file=None).wrap_socket(plain, server_hostname=name) as wrapped:
            return fingerprint_of(wrapped)
