"""The error tree. Each class has a stable code; its docstring is the default sentence.

Nothing here knows HTTP or exit codes: `web/middleware.py` and `cli/main.py` hold one table each.
"""

from typing import ClassVar

LONGEST_ECHO = 80


class KohakuRiverError(Exception):
    """something went wrong"""

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        value: object = None,
        limit: object = None,
    ) -> None:
        """`field` is the path of the input at fault, `value` what was given, `limit` what would be accepted."""
        self.message = message or (self.__class__.__doc__ or "").strip()
        self.field = field
        self.value = None if value is None else shorten(value)
        self.limit = None if limit is None else str(limit)
        super().__init__(self.message)


class Malformed(KohakuRiverError):
    """the request could not be read"""

    code = "malformed"


class Invalid(KohakuRiverError):
    """a value is not acceptable"""

    code = "invalid"


class NeverFits(Invalid):
    """no node of this cluster could ever run this"""

    code = "never_fits"


class NotSignedIn(KohakuRiverError):
    """sign in first"""

    code = "not_signed_in"


class NotAllowed(KohakuRiverError):
    """your role does not allow this"""

    code = "not_allowed"


class NotFound(KohakuRiverError):
    """there is no such thing, or it is not yours to see"""

    code = "not_found"


class Conflict(KohakuRiverError):
    """it is in a state in which this cannot be done"""

    code = "conflict"


class InvalidTransition(Conflict):
    """the task cannot change in this way now"""

    code = "invalid_transition"


class MovedOn(Conflict):
    """somebody else changed it in the meantime; look again and retry"""

    code = "moved_on"


class QuotaExceeded(Conflict):
    """your limit is reached"""

    code = "quota_exceeded"


class Gone(KohakuRiverError):
    """this was used already, or has expired"""

    code = "gone"


class TooLarge(KohakuRiverError):
    """the request is too large"""

    code = "too_large"


class TooMany(KohakuRiverError):
    """too many attempts; wait and try again"""

    code = "too_many"

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(KohakuRiverError):
    """the service is not ready yet"""

    code = "not_ready"


class Unreachable(KohakuRiverError):
    """the other side does not answer"""

    code = "unreachable"


class StorageFull(KohakuRiverError):
    """the disk of the host is full; nothing was stored"""

    code = "storage_full"


class StoreError(KohakuRiverError):
    """the store cannot be used"""

    code = "store"


class ConfigError(KohakuRiverError):
    """the configuration cannot be used"""

    code = "config"


class PluginError(KohakuRiverError):
    """a plugin failed"""

    code = "plugin"


class BackendAway(PluginError):
    """what runs the workloads of this backend does not answer now"""

    code = "backend_away"


def shorten(value: object) -> str:
    """The value as one printable line of at most 80 characters, for error messages."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)[: LONGEST_ECHO + 1])
    return text if len(text) <= LONGEST_ECHO else text[: LONGEST_ECHO - 1] + "…"
