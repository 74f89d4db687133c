"""The host's certificate: its own one, made once and pinned by runners, or a given one."""

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kohakuriver.errors import ConfigError

CERTIFICATE = "tls-cert.pem"
KEY = "tls-key.pem"
#: runners pin the certificate itself, so a short life would only break them
LIFE = timedelta(days=3650)


def ensure_certificate(folder: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """The certificate and key in the folder, made if neither is there. Half a pair is a ConfigError, never replaced."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    there = certificate.exists(), key.exists()
    if there == (False, False):
        _make(certificate, key, names, now)
    elif there != (True, True):
        missing = key if there[0] else certificate
        raise ConfigError(
            f"{missing} is missing: runners pin this certificate; restore it, or remove both and join anew"
        )
    return certificate, key


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the first certificate of the file in DER form, in hex. Raises ConfigError."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{certificate} cannot be read as a certificate: {error}") from None
    return hashlib.sha256(found.public_bytes(serialization.Encoding.DER)).hexdigest()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this pair. Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{certificate} and {key} cannot be used: {error}") from None
    return context


def _make(certificate: Path, key: Path, names: Iterable[str], now: datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KohakuRiver host")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_alternative(one) for one in sorted(set(names))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(key, private.private_bytes(encoding, form, serialization.NoEncryption()), 0o600)
    _write(certificate, made.public_bytes(encoding), 0o644)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
