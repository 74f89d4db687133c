"""Secrets that programs carry: how they are made, read and compared. Knows no store and no clock.

`kr<kind>_<id, 10><secret, 43><checksum, 6>` in letters and digits, with `_` after the id: 256 bits of secret, of which
only the SHA-256 is stored (a fast hash is right for random secrets). Prefix and checksum serve secret scanners.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

USER = "u"
JOIN = "j"
NODE = "n"
INVITATION = "i"
SESSION = "s"
FIRST_ADMIN = "f"

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
LONGEST = 80
ID_LENGTH = 10
SECRET_LENGTH = 43
CHECK_LENGTH = 6

_FORM = re.compile(
    rf"kr([a-z])_([0-9A-Za-z]{{{ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{6}})", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One secret in its parts. `str()` of it is what its owner is shown, once; `repr()` hides it."""

    kind: str
    id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        body = f"kr{self.kind}_{self.id}_{self.secret}"
        return body + checksum(body)

    @property
    def digest(self) -> str:
        """What is stored: SHA-256 of the secret half, in hex."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, stored: str) -> bool:
        """Whether this is the secret that was stored; takes the same time for every wrong one."""
        return hmac.compare_digest(self.digest, stored)


def make(kind: str) -> Credential:
    """A new random credential."""
    return Credential(kind=kind, id=_letters(ID_LENGTH), secret=_letters(SECRET_LENGTH))


def parse(text: str, kind: str) -> Credential | None:
    """The credential in its parts, None when it is not one of this kind or was mistyped."""
    if len(text) > LONGEST:
        return None
    match = _FORM.fullmatch(text)
    if match is None or match[1] != kind or not hmac.compare_digest(match[4], checksum(text[:-CHECK_LENGTH])):
        return None
    return Credential(kind=kind, id=match[2], secret=match[3])


def fingerprint(text: str) -> bytes:
    """SHA-256 of a credential as it was sent."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def bearer(authorization: str | None) -> str | None:
    """What stands after `Bearer` in an Authorization header; None without such a header."""
    if authorization is None:
        return None
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def checksum(body: str) -> str:
    """CRC-32 of the text in six letters and digits."""
    number = zlib.crc32(body.encode())
    letters = []
    for _ in range(CHECK_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "".join(reversed(letters))


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
