"""TLS for a client: a pinned SHA-256 fingerprint, a CA file, or the system's authorities."""

import hashlib
import hmac
import socket
import ssl

from kohakuriver.client.place import Place
from kohakuriver.errors import ConfigError, Unreachable

#: seconds to wait for the certificate of a host that is not known
LOOK = 10.0


def wrap(plain: socket.socket, name: str, place: Place) -> ssl.SSLSocket:
    """The connection under TLS, the other side known. Takes `plain` over, and closes it on failure.

    Raises Unreachable with the next step, or OSError.
    """
    pin = place.fingerprint
    try:
        context = make_context(pinned=pin is not None, ca_file=place.ca_file)
        address = plain.getpeername()[:2]
    except (ConfigError, OSError):
        plain.close()
        raise
    try:
        wrapped = context.wrap_socket(plain, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise _unknown(address, place, error) from None
    except ssl.SSLError as error:
        why = error.reason or error
        raise Unreachable(f"TLS with {place.url} ({place.source}) failed ({why}); does it speak https?") from None
    if pin is not None:
        check_pin(wrapped, pin)
    return wrapped


def make_context(*, pinned: bool, ca_file: str | None) -> ssl.SSLContext:
    """What to wrap a socket with. With `pinned` the caller must call `check_pin` before it sends anything, and no
    authority is loaded: reading them all takes longer than most commands.
    """
    if pinned:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            words = f"the CA file {ca_file} cannot be used: {error}"
            raise ConfigError(words, field="ca_file", value=ca_file) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def fingerprint_of(wrapped: ssl.SSLSocket) -> str:
    """SHA-256 of the certificate that the other side showed."""
    return hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()


def check_pin(wrapped: ssl.SSLSocket, pinned: str) -> None:
    """Raises Unreachable, and hangs up, when the other side is not the one whose fingerprint is known."""
    shown = fingerprint_of(wrapped)
    if not hmac.compare_digest(shown, pinned):
        wrapped.close()
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


def _unknown(address: tuple[str, int], place: Place, error: ssl.SSLCertVerificationError) -> Unreachable:
    try:
        shown = look_at(*address, timeout=LOOK)
    except OSError:
        shown = "unknown"
    return Unreachable(
        f"the certificate of {place.url} is not known here ({error.verify_message}); "
        f"compare its SHA-256 fingerprint with the administrator's, then: "
        f"kohakuriver auth login --url {place.url} --fingerprint {shown}",
        field="fingerprint",
        value=shown,
    )
