"""Which shell a person gets in a container: that of root's entry in its /etc/passwd, else the best one there."""

import contextlib

from kohakuriver.errors import KohakuRiverError, PluginError
from kohakuriver_docker.files import DockerFiles, small
from kohakuriver_docker.setups import Setups

BEST = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh", "/usr/bin/sh")
#: what stands there for those who shall have none
NONE = ("nologin", "false", "true", "sync")
MOST_PASSWD = 1 << 20


async def best(setups: Setups, files: DockerFiles, container: str) -> str:
    """Raises PluginError when there is none."""
    own = await _of_root(files)
    for shell in (own, *BEST) if own else BEST:
        if await setups.has(container, shell):
            return shell
    raise PluginError("there is no shell in this container; name a program that it has")


async def _of_root(files: DockerFiles) -> str:
    data = b""
    with contextlib.suppress(KohakuRiverError):
        data = await small(files, "/etc/passwd", MOST_PASSWD)
    for line in data.decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[0] == "root" and fields[2] == "0":
            shell = fields[6].strip()
            usable = shell.startswith("/") and shell.rpartition("/")[2] not in NONE
            return shell if usable else ""
    return ""
