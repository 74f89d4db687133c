"""What the errors of a file system mean to people."""

import errno

from kohakuriver.errors import KohakuRiverError, PluginError, StorageFull, Unreachable

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
AWAY = {errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV}
REFUSED = {errno.EACCES, errno.EPERM}


def explain(error: OSError, doing: str) -> KohakuRiverError:
    """The error to raise instead; `doing` is what was tried, with the version."""
    cause = (error.strerror or str(error)).lower()
    if error.errno in FULL:
        return StorageFull(f"{doing}: the disk is full ({cause})")
    if error.errno in AWAY:
        return Unreachable(f"{doing}: the share does not answer as it should ({cause}); is the file server up?")
    if error.errno == errno.EROFS:
        return PluginError(f"{doing}: it is mounted read-only here")
    if error.errno in REFUSED:
        return PluginError(
            f"{doing}: this runner may not ({cause}); let its user write there, or export it without root_squash"
        )
    return PluginError(f"{doing}: {cause}")
